"""Back-ups of the private PostgreSQL: whole copies, and beside them all that it writes, for any point in time since.

What the server has not handed over yet is lost with its disk: at most what it wrote in ARCHIVE_TIMEOUT_S.
"""

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from deploy.errors import StackError
from deploy.process import as_account

ARCHIVE_TIMEOUT_S: Final = 60
BACKUP_DEADLINE_S: Final = 3_600.0
# The names of whole copies: when each was complete.
_NAME: Final = "%Y%m%dT%H%M%S.%fZ"


class Backups:
    """A folder that outlives the server's disk; better on another. `account` is whom the server runs as."""

    def __init__(self, folder: Path, account: str | None, archive_timeout_s: int = ARCHIVE_TIMEOUT_S) -> None:
        self._whole = folder / "base"
        self._wal = folder / "wal"
        self._account = account
        self._archive_timeout_s = archive_timeout_s

    def prepare(self) -> None:
        """Makes the folder, the server's own. Raises StackError."""
        for folder in (self._whole, self._wal):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._account:
                shutil.chown(folder, self._account, self._account)
            probe = subprocess.run([*as_account(self._account), "test", "-w", folder], cwd="/", check=False)
            if probe.returncode:
                raise StackError(f"PostgreSQL, as {self._account or 'you'}, cannot write to {folder}; name another")

    def settings(self) -> dict[str, object]:
        """With which the server hands over whatever it writes, a segment at a time."""
        there = shlex.quote(f"{self._wal}/".replace("%", "%%"))
        # Under its name only when it is whole and on disk; one that is there already, from before a crash, is enough.
        command = (
            f"cmp -s %p {there}%f || "
            f"{{ test ! -e {there}%f && cp %p {there}%f.part && sync {there}%f.part && mv {there}%f.part {there}%f; }}"
        )
        return {"archive_mode": "on", "archive_command": command, "archive_timeout": self._archive_timeout_s}

    @property
    def is_used(self) -> bool:
        """Whether anything is kept there."""
        return any(next(folder.glob("*"), None) for folder in (self._whole, self._wal))

    def recovery(self, target: datetime | None) -> dict[str, object]:
        """With which a server whose data are a whole copy becomes what it was at that instant; None: at the last."""
        there = shlex.quote(f"{self._wal}/".replace("%", "%%"))
        command: dict[str, object] = {"restore_command": f"cp {there}%f %p"}
        if target is None:
            return command
        return command | {
            "recovery_target_time": target.astimezone(UTC).isoformat(),
            "recovery_target_action": "promote",
        }

    def take(self, binaries: Path, connection: Mapping[str, str]) -> Path:
        """Makes a whole copy of a server that runs, and verifies it. Raises StackError."""
        unfinished = self._whole / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        basebackup = [str(binaries / "pg_basebackup"), "--pgdata", str(unfinished), "--no-password"]
        self._run([*basebackup, "--checkpoint=fast", "--wal-method=fetch"], connection)
        self._run([str(binaries / "pg_verifybackup"), "--quiet", str(unfinished)], connection)
        complete = self._whole / datetime.now(UTC).strftime(_NAME)
        unfinished.rename(complete)
        return complete

    def newest_before(self, target: datetime | None) -> Path:
        """The last whole copy that was complete by then; None: the last of all. Raises StackError."""
        now = datetime.now(UTC)
        target = target or now
        if target > now:
            raise StackError(f"{target.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC is yet to come")
        found = {_time_of(path): path for path in self._whole.glob("*Z")}
        usable = [time for time in found if time <= target]
        if not usable:
            first = f"the first is of {min(found):%Y-%m-%d %H:%M:%S %Z}" if found else "there is none at all"
            raise StackError(f"there is no whole copy in {self._whole} from before that time: {first}")
        return found[max(usable)]

    def unpack(self, backup: Path, data: Path) -> None:
        """Lays a whole copy out as the data of a server that shall recover. Raises StackError."""
        self._run(["cp", "--archive", str(backup), str(data)], {})
        self._run(["touch", str(data / "recovery.signal")], {})

    def _run(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **variables}
        try:
            done = subprocess.run(
                [*as_account(self._account), *command],
                env=environment,
                cwd="/",
                capture_output=True,
                text=True,
                timeout=BACKUP_DEADLINE_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise StackError(f"{Path(command[0]).name} took longer than {BACKUP_DEADLINE_S:.0f} s") from error
        if done.returncode:
            raise StackError(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")


def _time_of(backup: Path) -> datetime:
    return datetime.strptime(backup.name, _NAME).replace(tzinfo=UTC)
