"""An issuer as the tests have it: it signs whatever they like, also what no issuer would."""

import base64
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from chassis.callers import Metadata
from chassis.errors import CallError
from chassis.tokens import Issuer, Verifier
from contract.access import ROLES

NAME = "https://issuer.test"
AUDIENCE = "ticketrush"
HOUR_S = 3_600


_made: dict[tuple[str, int], rsa.RSAPrivateKey] = {}


def key(name: str, bits: int = 2_048) -> rsa.RSAPrivateKey:
    """The key of this name: the same one for all who ask."""
    if (name, bits) not in _made:
        _made[name, bits] = rsa.generate_private_key(public_exponent=65_537, key_size=bits)
    return _made[name, bits]


def jwk(name: str, bits: int = 2_048, **fields: Any) -> dict[str, Any]:
    """Its public part, as a key set shows it."""
    public: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(key(name, bits).public_key()))
    return public | {"kid": name, "use": "sig", "alg": "RS256"} | fields


def key_set(*names: str) -> str:
    return json.dumps({"keys": [jwk(name) for name in names]})


def claims(**fields: Any) -> dict[str, Any]:
    """Of a buyer, ada, for an hour; fields that are None are left out."""
    now = int(time.time())
    whole = {"iss": NAME, "aud": AUDIENCE, "sub": "ada", "roles": ["buyer"], "iat": now, "exp": now + HOUR_S} | fields
    return {name: value for name, value in whole.items() if value is not None}


def signed(by: str = "current", *, kid: str | None = "", **fields: Any) -> str:
    """A token with these claims; its header names the key, or another, or (None) none."""
    headers = {} if kid is None else {"kid": kid or by}
    return jwt.encode(claims(**fields), key(by), algorithm="RS256", headers=headers)


def signed_bytes(payload: bytes) -> str:
    """A good signature under anything at all."""
    return jwt.api_jws.encode(payload, key("current"), algorithm="RS256", headers={"kid": "current"})


def unsigned(algorithm: str = "none", secret: bytes = b"", kid: str = "current", **fields: Any) -> str:
    """A token with this algorithm in its header, signed as HS256 would with a secret; without one not at all.

    By hand: no library makes it.
    """
    head = f"{_part({'alg': algorithm, 'typ': 'JWT', 'kid': kid})}.{_part(claims(**fields))}"
    return f"{head}.{_text(hmac.digest(secret, head.encode(), 'sha256')) if secret else ''}"


def public_pem(name: str = "current") -> bytes:
    """What everybody knows of a key."""
    return (
        key(name).public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def altered(token: str, **fields: Any) -> str:
    """Another payload under the signature of the old one."""
    head, payload, signature = token.split(".")
    told = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return f"{head}.{_part(told | fields)}.{signature}"


def with_parts(header: bytes, payload: bytes, signature: bytes = b"x") -> str:
    return ".".join(map(_text, (header, payload, signature)))


def bearer(token: str) -> Metadata:
    return (("user-agent", "test"), ("authorization", f"Bearer {token}"))


def verifier(place: Path | str) -> Verifier:
    """Of our tokens, by the key set at a place; nothing is read yet."""
    return Verifier(Issuer(str(place), NAME, AUDIENCE), ROLES)


async def refusal(verifier: Verifier, token: str) -> CallError:
    """How the token is refused; it must be."""
    try:
        caller = await verifier.caller(bearer(token))
    except CallError as error:
        return error
    raise AssertionError(f"{caller} was let in")


def _part(value: Any) -> str:
    return _text(json.dumps(value).encode())


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
