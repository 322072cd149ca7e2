"""Identities of a CA of the test's own, in files."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from chassis.tls import Tls
from deploy.certificates import LIFETIME, Credential, issue, make_authority
from deploy.process import write_atomically
from deploy.services import certificate_files


@dataclass
class Office:
    """Issues identities under a folder; `authority` may be changed for another CA."""

    folder: Path
    authority: Credential = field(default_factory=lambda: make_authority(datetime.now(UTC)))

    def issue(self, name: str, *, age: timedelta = timedelta(), lifetime: timedelta = LIFETIME) -> None:
        """A certificate for the name, in place of the one that it has; `age` ago."""
        cert, key, trusted = self.files(name)
        write_atomically(trusted, self.authority.cert_pem)
        issue(self.authority, name, datetime.now(UTC) - age, lifetime).write(cert, key)

    def files(self, name: str) -> tuple[Path, Path, Path]:
        return certificate_files(self.folder, name)

    def tls(self, name: str) -> Tls:
        """The identity, issued if it has not been."""
        if not self.files(name)[0].exists():
            self.issue(name)
        return Tls(*self.files(name))
