"""Bearer tokens: JWTs (RFC 7519) signed with RS256 by a known key, each verified once and then remembered."""

import re
import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import grpc
import jwt

from chassis.bearer import KEY
from chassis.callers import Caller, Metadata
from chassis.errors import CallError
from chassis.keys import ALGORITHM, KeySet, NoKeys
from chassis.settings import PREFIX, stop_misconfigured

SCHEME: Final = "Bearer "
TOKEN_LENGTH_MAX: Final = 4_096
ROLES_MAX: Final = 16
# Between the issuer's clock and ours.
LEEWAY_S: Final = 10
# Some 1.5 KB each.
REMEMBERED_MAX: Final = 20_000
HEADERS_MAX: Final = 64
REQUIRED_CLAIMS: Final = ("exp", "iat", "sub", "iss", "aud")

# It travels on as metadata, and is compared with what callers type.
_SUBJECT = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True)
class Issuer:
    """Whose tokens count: signed with a key of the set at `jwks`, and with these in their `iss` and `aud`."""

    jwks: str
    name: str
    audience: str


def refused(reason: str, message: str) -> CallError:
    """The refusal of a call whose caller is not known."""
    return CallError(grpc.StatusCode.UNAUTHENTICATED, reason, message)


def missing() -> CallError:
    """Of a call without a token."""
    return refused("TOKEN_MISSING", f"who calls must be told: send the metadata `{KEY}: {SCHEME}TOKEN`")


def expired() -> CallError:
    """Of a call whose token was good once."""
    return refused("TOKEN_EXPIRED", "the token has expired; get a new one from its issuer and send the request again")


class Verifier:
    """Tells callers by their tokens. Only `roles` are roles; other words in a token's `roles` say nothing here."""

    def __init__(self, issuer: Issuer, roles: Collection[str]) -> None:
        self._issuer = issuer
        self._roles = frozenset(roles)
        self._keys = KeySet(issuer.jwks, self._forget)
        self._remembered: OrderedDict[str, Caller] = OrderedDict()
        # All tokens of one key begin alike, so that this is read once: the kid by a token's first part.
        self._kids: dict[str, str] = {}

    async def open(self) -> None:
        """Reads the keys; ends the process when there are none to use."""
        try:
            await self._keys.open()
        except NoKeys as error:
            stop_misconfigured(f"{PREFIX}AUTH_JWKS: {error}")

    async def run(self) -> None:
        """Keeps the keys fresh until cancelled."""
        await self._keys.run()

    async def caller(self, metadata: Metadata) -> Caller:
        """Who makes a call with this metadata. Raises CallError (UNAUTHENTICATED), with nothing of the token in it."""
        value = ""
        for key, sent in metadata:
            if key == KEY:
                value = str(sent)
                break
        known = self._remembered.get(value)
        if known is None:
            return await self._verify(value)
        if time.time() >= known.valid_until_s:
            del self._remembered[value]
            raise expired()
        self._remembered.move_to_end(value)
        return known

    async def _verify(self, value: str) -> Caller:
        if not value:
            raise missing()
        if value[: len(SCHEME)].lower() != SCHEME.lower():
            _invalid(f"`{KEY}` must be `{SCHEME}TOKEN`")
        token = value[len(SCHEME) :].strip()
        if len(token) > TOKEN_LENGTH_MAX:
            _invalid(f"it is longer than {TOKEN_LENGTH_MAX:,} characters")
        try:
            claims = await self._claims(token)
        except jwt.ExpiredSignatureError:
            raise expired() from None
        except jwt.PyJWTError as error:
            _invalid(_PROBLEMS.get(type(error), "it is malformed, or not signed by a key that we know"))
        except (ValueError, TypeError, ArithmeticError, RecursionError):
            # What JSON can say and the library does not expect: an infinite time, a thousand lists in each other.
            _invalid("it is malformed")
        caller = self._caller_of(claims)
        self._remembered[value] = caller
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        return caller

    async def _claims(self, token: str) -> dict[str, Any]:
        """What a token says, once all of it is verified."""
        header, _, _ = token.partition(".")
        kid = self._kids.get(header)
        if kid is None:
            named = jwt.get_unverified_header(token)
            if named.get("alg") != ALGORITHM:
                _invalid(f"it must be signed with {ALGORITHM}")
            kid = named.get("kid")
            if not isinstance(kid, str):
                _invalid("its header names no key (kid)")
        key = self._keys.known(kid) or await self._keys.find(kid)
        if key is None:
            _invalid("it is not signed by a key that we know")
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            issuer=self._issuer.name,
            audience=self._issuer.audience,
            leeway=LEEWAY_S,
            # When it was issued is for those who read logs: with a clock that is behind, all who have just signed in
            # would be refused for it.
            options={"require": list(REQUIRED_CLAIMS), "verify_iat": False},
        )
        if len(self._kids) < HEADERS_MAX:
            self._kids[header] = kid
        return claims

    def _caller_of(self, claims: dict[str, Any]) -> Caller:
        subject, roles = claims["sub"], claims.get("roles", [])
        if not _SUBJECT.fullmatch(subject):
            _invalid("its `sub` must be 1 to 128 printable characters without spaces")
        if not isinstance(roles, list) or len(roles) > ROLES_MAX or not all(isinstance(role, str) for role in roles):
            _invalid(f"its `roles` must be a list of at most {ROLES_MAX} words")
        return Caller(subject, self._roles.intersection(roles), int(claims["exp"]) + LEEWAY_S)

    def _forget(self) -> None:
        """Other keys are known now: who was let in by one that is gone shows its token anew."""
        self._remembered.clear()
        self._kids.clear()


_PROBLEMS: Final = {
    jwt.InvalidSignatureError: "it is not signed by a key that we know",
    jwt.InvalidAudienceError: "it is meant for another audience",
    jwt.InvalidIssuerError: "it was issued by somebody else",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.MissingRequiredClaimError: f"it lacks one of {', '.join(REQUIRED_CLAIMS)}",
}


def _invalid(problem: str) -> NoReturn:
    raise refused("TOKEN_INVALID", f"the token is not accepted: {problem}") from None
