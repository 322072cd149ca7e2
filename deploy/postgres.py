"""A private PostgreSQL on a loopback port, its data under the run directory."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psycopg
from psycopg.sql import SQL, Identifier

from deploy.backups import Backups
from deploy.errors import StackError
from deploy.process import Process, as_account, wait_until
from deploy.services import ADMINISTRATOR, DATABASE, LOOPBACK

# For data that the server's account cannot reach in the run directory. Not /tmp, which a reboot empties.
ELSEWHERE = Path("/var/tmp")  # noqa: S108
START_DEADLINE_S: Final = 60.0
STOP_DEADLINE_S: Final = 20.0
# Smart shutdown (SIGTERM) would wait for every client to leave; fast shutdown rolls them back and writes a checkpoint.
STOP_SIGNAL: Final = signal.SIGINT
_CHECK_TIMEOUT_S: Final = 5
_INITDB_DEADLINE_S: Final = 120.0
_ORPHANS_DEADLINE_S: Final = 10.0
# For all that was written since the whole copy: some minutes of it a gigabyte.
RECOVERY_DEADLINE_S: Final = 3_600.0
# What it writes to its log when it has read all that there is, and the time that was named is later.
_TARGET_NOT_REACHED: Final = "recovery ended before configured recovery target was reached"
MAX_CONNECTIONS: Final = 200
_DEBIAN_BINARIES: Final = Path("/usr/lib/postgresql")
ENVIRONMENT: Final = {"PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC"}


def url(port: int, password: str, database: str = DATABASE) -> str:
    """The URL of the private server for its administrator."""
    return f"postgresql://{ADMINISTRATOR}:{password}@{LOOPBACK}:{port}/{database}"


def check(database_url: str) -> None:
    """Raises StackError if no server answers at the URL."""
    try:
        psycopg.connect(database_url, connect_timeout=_CHECK_TIMEOUT_S).close()
    except psycopg.Error as error:
        raise StackError(f"no PostgreSQL can be used at DATABASE_URL: {error}") from error


class Postgres:
    """The private server of a run directory, see `deploy.servers.Server`."""

    fact = "DATABASE_URL"
    package = "postgresql"

    def __init__(
        self, process: Process, run_dir: Path, ports: Mapping[str, int], password: str, backup_dir: Path | None = None
    ) -> None:
        self.process = process
        self._run_dir = run_dir
        self._port = ports["postgres"]
        self._password = password
        self._backups = Backups(backup_dir, server_account()) if backup_dir else None

    @property
    def url(self) -> str:
        return url(self._port, self._password)

    def is_installed(self) -> bool:
        return find_binaries(None) is not None

    def check(self, url: str) -> None:
        check(url)

    def start(self) -> None:
        """Makes data directory and database first if there are none."""
        home = self._own_home()
        if not (home / "data").exists():
            if self._backups and self._backups.is_used:
                raise StackError(
                    f"there are no data in {home}, and back-ups of other data where its own should go: bring those "
                    "back with: python -m deploy restore --latest; or begin anew with another TICKETRUSH_BACKUP_DIR"
                )
            _make_data(home, binaries(home / "data"), self._password)
        self._start(home, {}, START_DEADLINE_S)
        make_database(self._stock)

    def back_up(self) -> Path:
        """Makes a whole copy of the server, which must run. Raises StackError."""
        connection = {"PGHOST": LOOPBACK, "PGPORT": str(self._port), "PGUSER": ADMINISTRATOR}
        return self._has_backups().take(binaries(self._own_home() / "data"), connection | self._login)

    def check_restorable(self, target: datetime | None) -> None:
        """Raises StackError where it can be seen beforehand that `restore` cannot be done."""
        self._has_backups().newest_before(target)

    def restore(self, target: datetime | None) -> Path | None:
        """Starts the server, which must be stopped, as it was at that instant; returns where what it had is kept.

        None: as late as can be. Where that cannot be done, all is as it was. Raises StackError. A server that has
        recovered hands over nothing for some minutes: it is to be started again before anything is sold.
        """
        home = self._own_home()
        data, backups = home / "data", self._has_backups()
        backup = backups.newest_before(target)
        kept = home / f"data.before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}" if data.exists() else None
        if kept:
            data.rename(kept)
        try:
            backups.unpack(backup, data)
            self._start(home, backups.recovery(target), RECOVERY_DEADLINE_S)
        except StackError as problem:
            self.process.kill()
            shutil.rmtree(data, ignore_errors=True)
            if kept:
                kept.rename(data)
            if _TARGET_NOT_REACHED in self.process.log_tail():
                raise StackError(
                    f"nothing is kept that was written after {target:%Y-%m-%d %H:%M:%S %Z}: name an earlier time, "
                    "or restore as late as can be with --latest"
                ) from problem
            raise
        return kept

    def _own_home(self) -> Path:
        return own_home(self._run_dir / "postgres")

    def _has_backups(self) -> Backups:
        if self._backups is None:
            raise StackError("nothing is kept to be restored: set TICKETRUSH_BACKUP_DIR, then make down, make up")
        return self._backups

    @property
    def _login(self) -> dict[str, str]:
        return {"PGPASSWORD": self._password}

    @property
    def _stock(self) -> str:
        """The URL of the database that every server has from the start."""
        return url(self._port, self._password, "postgres")

    def _start(self, home: Path, extra: Mapping[str, object], deadline_s: float) -> None:
        """Starts it on data that are there, and waits until it takes writes."""
        _forget_dead_postmaster(home / "data")
        if self._backups:
            self._backups.prepare()
            extra = self._backups.settings() | dict(extra)
        settings = {
            "port": self._port,
            "listen_addresses": LOOPBACK,
            # A path to a Unix socket may hold only 107 bytes; the run directory's may be longer.
            "unix_socket_directories": "",
            "max_connections": MAX_CONNECTIONS,
            "log_timezone": "UTC",
            "timezone": "UTC",
            **extra,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(binaries(home / "data") / "postgres"), "-D", str(home / "data"), *options]
        self.process.start(command, ENVIRONMENT, directory=Path("/"), account=server_account())
        wait_until(lambda: self.process.pid is None or _answers(self._stock), deadline_s)
        if self.process.pid is None or not _answers(self._stock):
            raise StackError(
                f"PostgreSQL does not answer on port {self._port}; "
                f"the end of {self.process.log}:\n{self.process.log_tail()}"
            )


def remove_data(home: Path) -> None:
    """Removes a directory of `own_home`, wherever it lies. Its server must be stopped."""
    if home.exists():
        shutil.rmtree(home.resolve())
    if home.is_symlink():
        home.unlink()


def server_account() -> str | None:
    """Whom the server runs as: it refuses root."""
    return "postgres" if os.geteuid() == 0 else None


def own_home(link: Path) -> Path:
    """The directory of a server, made when it is missing; or what it links to where its account cannot go there."""
    if not link.exists():
        link.unlink(missing_ok=True)
        link.mkdir(mode=0o700)
        if not hand_over(link):
            link.rmdir()
            elsewhere = Path(tempfile.mkdtemp(prefix="ticketrush-postgres-", dir=ELSEWHERE))
            hand_over(elsewhere)
            link.symlink_to(elsewhere)
    return link.resolve()


def hand_over(directory: Path) -> bool:
    """Gives the directory to the server's account; False if that account cannot get there."""
    account = server_account()
    if account is None:
        return True
    try:
        shutil.chown(directory, account, account)
    except LookupError as error:
        raise StackError(
            f"PostgreSQL refuses to run as root and there is no account {account}; run make as another user"
        ) from error
    probe = subprocess.run([*as_account(account), "test", "-w", directory], cwd="/", check=False)
    return probe.returncode == 0


def binaries(data: Path) -> Path:
    """The folder of the programs that can serve the data, the newest if there is none yet."""
    version_file = data / "PG_VERSION"
    version = version_file.read_text().strip() if version_file.exists() else None
    found = find_binaries(version)
    if found is None:
        wanted = f"PostgreSQL {version}, which made {data}" if version else "initdb and postgres"
        raise StackError(f"cannot find {wanted}; install it, or remove the data with: make clean")
    return found


def find_binaries(version: str | None) -> Path | None:
    """The folder with the newest server, or with the one of that major version."""
    on_path = shutil.which("postgres")
    folders = [Path(on_path).resolve().parent] if on_path and version is None else []
    versions = sorted(_DEBIAN_BINARIES.glob(version or "[0-9]*"), key=lambda path: int(path.name), reverse=True)
    folders += [path / "bin" for path in versions]
    return next((path for path in folders if (path / "initdb").exists() and (path / "postgres").exists()), None)


def _make_data(home: Path, binaries: Path, password: str) -> None:
    """Under another name first: an initdb that was interrupted leaves nothing that looks complete."""
    unfinished, secret = home / "data.new", home / "password"
    shutil.rmtree(unfinished, ignore_errors=True)
    secret.touch(mode=0o600)
    secret.write_text(password)
    hand_over(secret)
    command = [str(binaries / "initdb"), "-D", str(unfinished), "-U", ADMINISTRATOR, "-E", "UTF8", "--locale=C.UTF-8"]
    command += ["--auth=scram-sha-256", f"--pwfile={secret}", "--data-checksums"]
    try:
        done = subprocess.run(
            [*as_account(server_account()), *command],
            env=ENVIRONMENT,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=_INITDB_DEADLINE_S,
            check=False,
        )
    finally:
        secret.unlink()
    if done.returncode:
        raise StackError(f"initdb failed:\n{done.stdout}{done.stderr}")
    unfinished.rename(home / "data")


def _forget_dead_postmaster(data: Path) -> None:
    """Removes the pid file of a server killed with -9, once no backend of it is left.

    PostgreSQL itself refuses to start while that pid is somebody's, be it a stranger's who got the number since.
    """
    if not wait_until(lambda: not at_work_in(data), _ORPHANS_DEADLINE_S):
        pids = " ".join(map(str, at_work_in(data)))
        raise StackError(f"another PostgreSQL is still at work in {data} (pid {pids}); stop it first: kill -INT {pids}")
    (data / "postmaster.pid").unlink(missing_ok=True)


def at_work_in(data: Path) -> list[int]:
    """The processes whose working directory is the data directory: a server and its backends."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == data:
                found.append(int(entry.name))
        except OSError:
            # Gone meanwhile, or another user's and so not ours.
            continue
    return sorted(found)


def _answers(administrator_url: str) -> bool:
    """Whether it takes writes: one that recovers answers earlier."""
    try:
        with psycopg.connect(administrator_url, connect_timeout=2) as conn:
            return conn.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
    except psycopg.OperationalError:
        return False


def make_database(administrator_url: str) -> None:
    with psycopg.connect(administrator_url, autocommit=True, connect_timeout=2) as conn:
        if conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone() is None:
            conn.execute(SQL("CREATE DATABASE {}").format(Identifier(DATABASE)))
