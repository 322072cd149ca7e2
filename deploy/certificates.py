"""Certificates of a local stack: a CA of its own, and one identity for each service and for its people's tools.

`python -m deploy.certificates FOLDER` makes them; elsewhere there is a real CA.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.process import write_atomically
from deploy.services import IDENTITIES, certificate_files

AUTHORITY: Final = "ca"
AUTHORITY_LIFETIME: Final = timedelta(days=3_650)
LIFETIME: Final = timedelta(days=90)
# Of its lifetime: with less than that left, a certificate is replaced.
RENEW_BELOW: Final = 1 / 3
# For those whose clock is behind ours, by a time zone at the worst.
_BACKDATED: Final = timedelta(days=1)
_USAGE: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
# Names under which a machine finds itself.
_LOOPBACK: Final = (
    x509.DNSName("localhost"),
    x509.IPAddress(ip_address("127.0.0.1")),
    x509.IPAddress(ip_address("::1")),
)


@dataclass(frozen=True)
class Credential:
    """A certificate and its key."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def cert_pem(self) -> str:
        return self.cert.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        form = serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()

    def is_fresh(self, now: datetime) -> bool:
        """Whether it is valid, and for a good while yet."""
        begin, end = self.cert.not_valid_before_utc, self.cert.not_valid_after_utc
        return begin <= now and end - now >= (end - begin) * RENEW_BELOW

    def write(self, cert: Path, key: Path) -> None:
        """To its files, for their owner alone; whoever reads in between finds a key that fits no certificate."""
        write_atomically(key, self.key_pem)
        write_atomically(cert, self.cert_pem)


def make_authority(now: datetime, lifetime: timedelta = AUTHORITY_LIFETIME) -> Credential:
    """A CA that vouches for itself."""
    key = _new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"TicketRush local CA {now:%Y-%m-%d}")])
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        _builder(name, name, key.public_key(), now, lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return Credential(builder.sign(key, hashes.SHA256()), key)


def issue(authority: Credential, name: str, now: datetime, lifetime: timedelta = LIFETIME) -> Credential:
    """An identity by that name, good for both ends of a connection."""
    key = _new_key()
    issuer = authority.key.public_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, authority.cert.subject, key.public_key(), now, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), *_LOOPBACK]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(_USAGE), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )
    return Credential(builder.sign(authority.key, hashes.SHA256()), key)


def prepare(folder: Path, names: Sequence[str] = IDENTITIES, say: Callable[[str], None] = lambda _: None) -> None:
    """Makes what is missing under the folder, and anew what is of no use or will not last; leaves the rest alone."""
    now = datetime.now(UTC)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    cert, key, _ = certificate_files(folder, AUTHORITY)
    authority = _read(cert, key)
    if authority is None or not authority.is_fresh(now):
        authority = make_authority(now)
        authority.write(cert, key)
        say("made a CA for the services of this stack")
    for name in names:
        cert, key, trusted = certificate_files(folder, name)
        known = _read(cert, key)
        if known is None or not known.is_fresh(now) or not _is_by(authority, known, name):
            # Whom to trust before what to show: a connection needs both.
            write_atomically(trusted, authority.cert_pem)
            issue(authority, name, now).write(cert, key)
            say(f"made a certificate for {name}")
        elif not trusted.exists() or trusted.read_text() != authority.cert_pem:
            write_atomically(trusted, authority.cert_pem)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _read(cert: Path, key: Path) -> Credential | None:
    """What the files hold; None when that is no certificate with its key."""
    try:
        found = x509.load_pem_x509_certificate(cert.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError):
        return None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != found.public_key():
        return None
    return Credential(found, private)


def _is_by(authority: Credential, known: Credential, name: str) -> bool:
    try:
        known.cert.verify_directly_issued_by(authority.cert)
        names = known.cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return name in names.get_values_for_type(x509.DNSName)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), say=print)
