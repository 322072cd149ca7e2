"""TLS between services: who we are, whom we trust, and who is at the other end. Files that change are read again."""

import logging
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import grpc
from grpc.aio import ServicerContext

log = logging.getLogger(__name__)

# How often files are looked at, at most; and so how soon a new certificate is used.
LOOK_INTERVAL_S: Final = 1.0
_COMMON_NAME: Final = "x509_common_name"
_State = tuple[tuple[int, int, int], ...]


class UnusableCertificateError(ValueError):
    """The files are no certificate with its key, or no CA. The message says which, and why."""


@dataclass(frozen=True)
class Pem:
    """What the files hold."""

    cert: bytes
    key: bytes
    ca: bytes | None


class Tls:
    """A certificate (with its chain), its key, and, where the other end has to show one of its own, the CA to trust.

    PEM files. The identity of a service is the common name of its certificate, which must also be a DNS name in it.
    """

    def __init__(self, cert: Path, key: Path, ca: Path | None = None) -> None:
        """Raises UnusableCertificateError."""
        self._cert, self._key, self._ca = cert, key, ca
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._seen = self._state()
        self._pem = self._read()

    def current(self) -> Pem:
        """What the files hold now; while they do not fit together, what they held before. Safe from any thread."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked >= LOOK_INTERVAL_S:
                self._looked = now
                self._look()
            return self._pem

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a port: each connection gets the newest. With a CA, callers without a certificate are refused."""
        given = self.current()

        def newest() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            pem = self.current()
            if pem == given:
                return None
            given = pem
            return _configuration(pem)

        # The stub does not know that None stands for no change.
        fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", newest)
        return grpc.dynamic_ssl_server_credentials(_configuration(given), fetch, self._ca is not None)

    def _look(self) -> None:
        try:
            state = self._state()
            if state == self._seen:
                return
            pem = self._read()
            if self._state() != state:
                return  # it is being written: the next look will tell
        except UnusableCertificateError as error:
            # Certificate and key are two files, and one of them is written first.
            log.warning("not the new certificate yet, the one of before: %s", error)
            return
        self._seen, self._pem = state, pem
        log.info("read the certificate again", extra={"file": str(self._cert)})

    def _state(self) -> _State:
        try:
            found = [file.stat() for file in (self._cert, self._key, self._ca) if file]
        except OSError as error:
            raise UnusableCertificateError(f"{error.filename} cannot be read: {error.strerror}") from error
        return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in found)

    def _read(self) -> Pem:
        try:
            pem = Pem(self._cert.read_bytes(), self._key.read_bytes(), self._ca.read_bytes() if self._ca else None)
            # The one who reads them for the connections says nothing of what is wrong with them.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._cert, self._key, password=_no_password)
        except ssl.SSLError as error:
            raise UnusableCertificateError(
                f"{self._cert} and {self._key} are no certificate and its key, in PEM ({error})"
            ) from error
        except OSError as error:
            raise UnusableCertificateError(f"{error.filename} cannot be read: {error.strerror}") from error
        if self._ca:
            try:
                context.load_verify_locations(self._ca)
            except ssl.SSLError as error:
                raise UnusableCertificateError(f"{self._ca} holds no certificate in PEM ({error})") from error
        return pem


def channel_credentials(pem: Pem) -> grpc.ChannelCredentials:
    """To show our certificate to a server, and to believe in those that the CA vouches for."""
    return grpc.ssl_channel_credentials(pem.ca, pem.key, pem.cert)


def called(peer: str) -> tuple[str, str]:
    """The channel option by which the server must have a certificate of this name, whatever its address is."""
    return ("grpc.ssl_target_name_override", peer)


def peer_of(context: ServicerContext[Any, Any]) -> str | None:
    """The common name of the caller's certificate, which is the name of a service; None without a certificate."""
    return next((name.decode() for name in context.auth_context().get(_COMMON_NAME, ())), None)


def _no_password() -> bytes:
    # The library would ask for one on the terminal.
    raise UnusableCertificateError("the key is encrypted, and there is nobody to ask for its password")


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.cert)], pem.ca)
