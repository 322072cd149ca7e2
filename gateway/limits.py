"""What one caller, one address and one call may take of a gateway, and the settings that say otherwise."""

from ipaddress import ip_network
from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings

from chassis.buckets import Rate
from chassis.callers import OPERATOR
from chassis.limits import Budget, Limits, Network
from chassis.server import MESSAGE_BYTES_MAX
from contract import access

# A person with a seat map of 100,000 seats open calls 100 times in a moment, and then once in a while.
CALLER_CALLS_PER_S: Final = 50.0
CALLER_BURST: Final = 500
CALLER_STREAMS: Final = 20
# Those who call for many people: at the doors, and in other systems of the house.
SYSTEM_CALLS_PER_S: Final = 2_000.0
SYSTEM_BURST: Final = 4_000
SYSTEM_STREAMS: Final = 500
# Behind one address may be a company, or a whole town on one mobile network.
ADDRESS_CALLS_PER_S: Final = 1_000.0
ADDRESS_BURST: Final = 4_000
ADDRESS_STREAMS: Final = 1_000
# Four times what a Reserve of 100 tickets takes.
REQUEST_BYTES_MAX: Final = 16 * 1024
# Longer than saying a command and the longest wait for it together.
CALL_TIMEOUT_S: Final = 45.0

_CATALOG: Final = "/ticketrush.v1.CatalogService/"
_LARGE: Final = {
    # 100,000 seats by name, as many as the port takes.
    f"{_CATALOG}CreateTickets": MESSAGE_BYTES_MAX,
    # 1,000 ids.
    f"{_CATALOG}WithdrawTickets": 64 * 1024,
}


def _networks(value: str) -> str:
    networks_of(value)
    return value


def networks_of(value: str) -> list[Network]:
    """Addresses and networks with commas between them. Raises ValueError."""
    return [ip_network(word.strip()) for word in value.split(",") if word.strip()]


class LimitSettings(BaseSettings):
    """Calls a second, how many at once after a rest, and open streams: of each buyer or organiser (`caller_...`), each
    door or service (`system_...`), each address. Operators have no limit, nor has loopback unless `limit_loopback`.

    `trusted_proxies` are addresses and networks, with commas between them, whose `x-forwarded-for` is believed.
    """

    caller_calls_per_s: float = Field(CALLER_CALLS_PER_S, gt=0)
    caller_burst: int = Field(CALLER_BURST, ge=1)
    caller_streams: int = Field(CALLER_STREAMS, ge=0)
    system_calls_per_s: float = Field(SYSTEM_CALLS_PER_S, gt=0)
    system_burst: int = Field(SYSTEM_BURST, ge=1)
    system_streams: int = Field(SYSTEM_STREAMS, ge=0)
    address_calls_per_s: float = Field(ADDRESS_CALLS_PER_S, gt=0)
    address_burst: int = Field(ADDRESS_BURST, ge=1)
    address_streams: int = Field(ADDRESS_STREAMS, ge=0)
    limit_loopback: bool = False
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = ""
    request_bytes_max: int = Field(REQUEST_BYTES_MAX, ge=1, le=MESSAGE_BYTES_MAX)
    call_timeout_s: float = Field(CALL_TIMEOUT_S, gt=0)

    def limits(self) -> Limits:
        """The limits of a gateway's port."""
        person = Budget(Rate(self.caller_calls_per_s, self.caller_burst), self.caller_streams)
        system = Budget(Rate(self.system_calls_per_s, self.system_burst), self.system_streams)
        return Limits(
            roles={
                OPERATOR: None,
                access.SERVICE: system,
                access.DOOR: system,
                access.BUYER: person,
                access.ORGANISER: person,
            },
            addresses=Budget(Rate(self.address_calls_per_s, self.address_burst), self.address_streams),
            request_bytes=lambda method: _LARGE.get(method, self.request_bytes_max),
            proxies=networks_of(self.trusted_proxies),
            limit_loopback=self.limit_loopback,
        )
