"""An issuer of tokens for a local stack, with its key under the run directory. Elsewhere there is a real one."""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from chassis.callers import OPERATOR
from chassis.keys import ALGORITHM
from deploy.errors import StackError
from deploy.process import write_atomically

NAME: Final = "ticketrush-local"
AUDIENCE: Final = "ticketrush"
KEY_BITS: Final = 2_048
OPERATOR_TOKEN: Final = "OPERATOR_TOKEN"  # noqa: S105 # the name of the fact, not its value
KEY_FILE: Final = "AUTH_KEY"
FRONTEND_TOKEN_FILE: Final = "FRONTEND_TOKEN_FILE"  # noqa: S105 # likewise
OPERATOR_TOKEN_S: Final = 30 * 24 * 3600
# With it the HTTP front reads what is on sale.
_FRONTEND: Final = "frontend"
_READER: Final = "service"
_PUBLIC_EXPONENT: Final = 65_537


@dataclass(frozen=True)
class Issuer:
    """Signs with the key under `folder`; `public_folder` holds what verifies it, and may be read by all."""

    folder: Path

    @property
    def key_file(self) -> Path:
        return self.folder / "key.pem"

    @property
    def public_folder(self) -> Path:
        return self.folder / "public"

    @property
    def jwks_file(self) -> Path:
        return self.public_folder / "jwks.json"

    def prepare(self) -> None:
        """Makes what is missing of the key and the key set."""
        if not self.key_file.exists():
            key = rsa.generate_private_key(public_exponent=_PUBLIC_EXPONENT, key_size=KEY_BITS)
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            write_atomically(self.key_file, pem.decode())
        text = json.dumps({"keys": [_jwk(read_key(self.key_file))]}, indent=1)
        if not self.jwks_file.exists() or self.jwks_file.read_text() != text:
            write_atomically(self.jwks_file, text)
        # Services in containers have other accounts; there is nothing secret in it.
        self.public_folder.chmod(0o755)
        self.jwks_file.chmod(0o644)

    @property
    def frontend_token_file(self) -> Path:
        return self.folder / "frontend.token"

    def facts(self, before: Mapping[str, str]) -> dict[str, str]:
        """What `stack.env` says of the issuer, with a token of an operator; that of before while it lasts for long.

        Likewise the token of the HTTP front, in a file of its own.
        """
        file = self.frontend_token_file
        known = file.read_text() if file.exists() else ""
        if (lasting := self.frontend_token(known)) != known:
            write_atomically(file, lasting)
        return {
            "AUTH_JWKS": str(self.jwks_file),
            "AUTH_ISSUER": NAME,
            "AUTH_AUDIENCE": AUDIENCE,
            KEY_FILE: str(self.key_file),
            OPERATOR_TOKEN: self._lasting(before.get(OPERATOR_TOKEN, ""), OPERATOR, OPERATOR),
            FRONTEND_TOKEN_FILE: str(file),
        }

    def frontend_token(self, before: str) -> str:
        """The token with which the HTTP front reads; that of before while it lasts for long."""
        return self._lasting(before, _FRONTEND, _READER)

    def _lasting(self, before: str, subject: str, role: str) -> str:
        """The token of before, or a new one where less than half of its time is left."""
        key = read_key(self.key_file)
        try:
            claims = jwt.decode(before, key.public_key(), [ALGORITHM], audience=AUDIENCE, issuer=NAME)
        except jwt.PyJWTError:
            claims = {"exp": 0}
        if claims["exp"] - time.time() > OPERATOR_TOKEN_S / 2:
            return before
        return token(self.key_file, subject, [role], OPERATOR_TOKEN_S)


def token(key_file: Path, subject: str, roles: Sequence[str], lasts_s: float) -> str:
    """A token of the local issuer for somebody in these roles. Raises StackError without its key."""
    return signed(read_key(key_file), subject, roles, lasts_s)


def signed(key: rsa.RSAPrivateKey, subject: str, roles: Sequence[str], lasts_s: float) -> str:
    """The same with the key in hand, for many."""
    now = int(time.time())
    claims = {
        "iss": NAME,
        "aud": AUDIENCE,
        "sub": subject,
        "roles": list(roles),
        "iat": now,
        "exp": now + int(lasts_s),
        "jti": str(uuid4()),
    }
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": _kid(key.public_key())})


def read_key(file: Path) -> rsa.RSAPrivateKey:
    """The issuer's private key. Raises StackError."""
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise StackError(f"the key of the local issuer cannot be read from {file}; make it with: make up") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise StackError(f"{file} holds no RSA key; remove it, then: make up")
    return key


def _kid(key: rsa.RSAPublicKey) -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return sha256(der).hexdigest()[:16]


def _jwk(key: rsa.RSAPrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    return {
        "kty": "RSA",
        "use": "sig",
        "alg": ALGORITHM,
        "kid": _kid(key.public_key()),
        "n": _base64url(numbers.n),
        "e": _base64url(numbers.e),
    }


def _base64url(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes((number.bit_length() + 7) // 8)).rstrip(b"=").decode()
