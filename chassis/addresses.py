"""What an address is, to those who listen and those who call. Imports next to nothing: the command starts with it."""

import re
from ipaddress import ip_address

_HOST_AND_PORT = re.compile(r"(?:\[[^\s\[\]]+\]|[^\s/:\[\]]+):([0-9]{1,5})")
_PORT_MAX = 65_535


def host_and_port(value: str) -> str:
    """The value, if it is HOST:PORT or [IPV6]:PORT. Raises ValueError."""
    found = _HOST_AND_PORT.fullmatch(value)
    if not (found and int(found[1]) <= _PORT_MAX):
        raise ValueError("must be HOST:PORT, for example 127.0.0.1:50051")
    return value


def is_loopback(host: str) -> bool:
    """Whether only this machine itself can be reached there; of a name, only `localhost` is known to be so."""
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
