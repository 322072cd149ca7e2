"""Page tokens: opaque to the caller, bound to the filters they were given under, and evident when tampered with."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Final, TypeVar

from chassis.errors import invalid

TOKEN_LENGTH_MAX: Final = 512
_MAC_BYTES: Final = 16
_WHY: Final = "was not given by this call with the same filters"

Position = TypeVar("Position")

# Enough to catch tokens that were altered, cut, or mixed up between calls. It need not be secret: a position names only
# where to go on, so whoever forges one sees nothing that the same call would not list anyway. Replicas share it and it
# survives a restart, which a drawn one would not.
DEFAULT_SECRET: Final = b"ticketrush page tokens"


class PageTokens:
    """Makes and reads page tokens; every replica of a service must have the same `secret`."""

    def __init__(self, secret: bytes = DEFAULT_SECRET) -> None:
        self._secret = secret

    def encode(self, filters: str, position: str) -> str:
        """The token that goes on behind `position` in the list that `filters` (the call and its filters) describe.

        URL-safe. The position is readable to whoever decodes it: no secrets. At most 360 bytes of UTF-8.
        """
        mac = hmac.digest(self._secret, f"{len(filters)}:{filters}{position}".encode(), "sha256")[:_MAC_BYTES]
        return urlsafe_b64encode(mac + position.encode()).rstrip(b"=").decode()

    def decode(self, filters: str, token: str, read: Callable[[str], Position]) -> Position | None:
        """The position to go on behind; None for the empty token, which asks for the first page.

        Raises CallError (INVALID_ARGUMENT, field `page_token`) unless `encode` made it under the same filters, and
        where `read` raises ValueError: whoever knows the secret may have made it, of anything.
        """
        if not token:
            return None
        position = _position(token)
        # Compared as a whole: base64 has several spellings of the same bytes, and only ours was given out.
        if position is None or not hmac.compare_digest(self.encode(filters, position).encode(), token.encode()):
            raise invalid({"page_token": _WHY})
        try:
            return read(position)
        except ValueError:
            raise invalid({"page_token": _WHY}) from None


def _position(token: str) -> str | None:
    if len(token) > TOKEN_LENGTH_MAX:
        return None
    try:
        return urlsafe_b64decode(token + "=" * (-len(token) % 4))[_MAC_BYTES:].decode()
    except ValueError:
        return None
