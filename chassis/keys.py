"""The public keys that tokens are signed with: read from a JWKS (RFC 7517), a file or a URL, and read again in time."""

import asyncio
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWTError
from jwt.algorithms import RSAAlgorithm

from chassis.addresses import is_loopback

log = logging.getLogger(__name__)

ALGORITHM: Final = "RS256"
KEY_BITS_MIN: Final = 2_048
# Beyond, verifying takes longer than all the rest of a call.
KEY_BITS_MAX: Final = 4_096
KEYS_MAX: Final = 32
KEY_SET_BYTES_MAX: Final = 256 * 1024
FETCH_TIMEOUT_S: Final = 5.0
FILE_INTERVAL_S: Final = 1.0
URL_INTERVAL_S: Final = 300.0
# Anybody can name a key that there is not: so often at most the set is asked for it.
LOOK_AGAIN_INTERVAL_S: Final = 10.0

Keys = Mapping[str, RSAPublicKey]


class NoKeys(Exception):
    """A key set that cannot be used; says where it is and what is wrong."""


class KeySet:
    """The keys at a path or http(s) URL, by kid. `changed` is called when they are others than before."""

    def __init__(self, place: str, changed: Callable[[], None]) -> None:
        self._place = place
        self._is_url = is_url(place)
        self._changed = changed
        self._keys: Keys = {}
        self._seen: object = None
        self._problem = ""
        self._looked = -LOOK_AGAIN_INTERVAL_S
        self._reading = asyncio.Lock()

    async def open(self) -> None:
        """Reads the keys. Raises NoKeys."""
        await self._read()

    async def run(self) -> None:
        """Keeps the keys as they are at their place, until cancelled. What cannot be used leaves those of before."""
        while True:
            await asyncio.sleep(URL_INTERVAL_S if self._is_url else FILE_INTERVAL_S)
            await self._try()

    def known(self, kid: str) -> RSAPublicKey | None:
        """The key of this name, if it has been read."""
        return self._keys.get(kid)

    async def find(self, kid: str) -> RSAPublicKey | None:
        """The key of this name; one that is not known is looked for again, now and then."""
        if kid not in self._keys:
            async with self._reading:
                # Who waited for another's look has it too.
                if kid not in self._keys and time.monotonic() - self._looked >= LOOK_AGAIN_INTERVAL_S:
                    self._looked = time.monotonic()
                    await self._try()
        return self._keys.get(kid)

    async def _try(self) -> None:
        try:
            await self._read()
            self._problem = ""
        except NoKeys as error:
            if str(error) != self._problem:
                self._problem = str(error)
                log.error("going on with the keys of before: %s", error)

    async def _read(self) -> None:
        if self._is_url:
            body = await asyncio.to_thread(_fetch, self._place)
        else:
            read = await asyncio.to_thread(_read_if_changed, self._place, self._seen)
            if read is None:
                return
            self._seen, body = read
        keys = parse(body, self._place)
        if {kid: key.public_numbers() for kid, key in keys.items()} != {
            kid: key.public_numbers() for kid, key in self._keys.items()
        }:
            self._keys = keys
            self._changed()
            log.info("keys for tokens: %s", ", ".join(sorted(keys)))


def is_url(place: str) -> bool:
    """Whether a key set is fetched, and not read from a file."""
    return "://" in place


def checked_place(place: str) -> str:
    """The place of a key set, if it can be one. Raises ValueError."""
    if is_url(place):
        parts = urlsplit(place)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be the path of a file, or https://HOST/PATH")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("must be https:// off this machine: who answers for the host would choose who gets in")
    return place


def parse(body: bytes, place: str) -> Keys:
    """The usable keys of a JWKS: RSA, for RS256, with a kid, of 2,048 to 4,096 bits. Raises NoKeys without any."""
    try:
        listed = json.loads(body)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise NoKeys(f'{place} is no key set: it must be JSON as {{"keys": [...]}}') from None
    if not isinstance(listed, list) or len(listed) > KEYS_MAX:
        raise NoKeys(f"{place} is no key set: `keys` must be a list of at most {KEYS_MAX}")
    keys: dict[str, RSAPublicKey] = {}
    problems = []
    for number, jwk in enumerate(listed):
        usable = _key(jwk)
        if isinstance(usable, str):
            problems.append(f"key {number} {usable}")
        else:
            keys[jwk["kid"]] = usable
    if not keys:
        raise NoKeys(f"{place} has no usable key, which is RSA for {ALGORITHM}: {'; '.join(problems) or 'it is empty'}")
    return keys


def _key(jwk: Any) -> RSAPublicKey | str:
    """The key, or why it cannot be used."""
    if not isinstance(jwk, dict) or jwk.get("kty") != "RSA":
        return "is not RSA"
    if not (isinstance(jwk.get("kid"), str) and jwk["kid"]):
        return "has no kid"
    if jwk.get("use", "sig") != "sig" or jwk.get("alg", ALGORITHM) != ALGORITHM:
        return f"is not for signing with {ALGORITHM}"
    if "d" in jwk:
        return "has its private part with it, which nobody but the issuer may know"
    try:
        key = RSAAlgorithm.from_jwk(jwk)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return "is malformed"
    if not isinstance(key, RSAPublicKey) or not KEY_BITS_MIN <= key.key_size <= KEY_BITS_MAX:
        return f"is not of {KEY_BITS_MIN:,} to {KEY_BITS_MAX:,} bits"
    return key


def _read_if_changed(path: str, seen: object) -> tuple[object, bytes] | None:
    """The file and how it looks; None if it looks as it was seen."""
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            looks = (status.st_mtime_ns, status.st_size, status.st_ino)
            return None if looks == seen else (looks, _bounded(file.read(KEY_SET_BYTES_MAX + 1), path))
    except OSError as error:
        raise NoKeys(f"{path} cannot be read: {error.strerror}") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Keys come from where they were said to be."""

    def redirect_request(self, *_: Any) -> None:
        """Nowhere."""


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.build_opener(_NoRedirect).open(url, timeout=FETCH_TIMEOUT_S) as answer:
            return _bounded(answer.read(KEY_SET_BYTES_MAX + 1), url)
    except urllib.error.HTTPError as error:
        error.close()
        raise NoKeys(f"{url} cannot be fetched: it answers with {error.code}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise NoKeys(f"{url} cannot be fetched: {error}") from error


def _bounded(body: bytes, place: str) -> bytes:
    if len(body) > KEY_SET_BYTES_MAX:
        raise NoKeys(f"{place} is larger than {KEY_SET_BYTES_MAX:,} bytes")
    return body
