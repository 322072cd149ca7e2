"""Three small etcd nodes: by majority they keep who is the primary. Spoken to with certificates of a CA of its own."""

import os
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy.errors import StackError
from deploy.ha.table import ETCDS
from deploy.process import Process, wait_until
from deploy.services import LOOPBACK, certificate_files

PROGRAM: Final = "/usr/bin/etcd"
START_DEADLINE_S: Final = 60.0
_ANSWER_TIMEOUT_S: Final = 2.0
# Ten times the defaults would be safer on a machine that stalls, but a new leader must be found well within Patroni's
# retry_timeout, or the primary gives up its lock for nothing.
HEARTBEAT_MS: Final = 200
ELECTION_MS: Final = 2_000
# Whoever may write there decides who is the primary: neither a service of ours nor another user of the machine may.
IDENTITIES: Final = ("etcd", "patroni")
_SNAPSHOT_AFTER: Final = 10_000


class Etcd:
    """One of the nodes, see `deploy.servers.Server`."""

    package = "etcd-server"

    def __init__(self, process: Process, run_dir: Path, ports: Mapping[str, int]) -> None:
        self.process = process
        self.fact = process.name
        self._home = run_dir / process.name
        self._tls = tls_folder(run_dir)
        self._ports = ports

    @property
    def url(self) -> str:
        return f"https://{LOOPBACK}:{self._ports[self.process.name]}"

    def is_installed(self) -> bool:
        return Path(PROGRAM).exists()

    def check(self, url: str) -> None:
        """Healthy is one that knows a leader."""
        cert, key, ca = certificate_files(self._tls, "patroni")
        try:
            context = ssl.create_default_context(cafile=str(ca))
            context.load_cert_chain(cert, key)
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
            )
            with opener.open(f"{url}/health", timeout=_ANSWER_TIMEOUT_S):
                return
        except OSError as error:
            raise StackError(f"no etcd answers at {url}: {error}") from error

    def start(self) -> None:
        process = self.process
        self._home.mkdir(mode=0o700, exist_ok=True)
        process.start(self._command(), {"PATH": os.defpath}, directory=self._home)
        wait_until(lambda: process.pid is None or self._is_healthy(), START_DEADLINE_S)
        if process.pid is None or not self._is_healthy():
            raise StackError(f"{process.name} does not come up; the end of {process.log}:\n{process.log_tail()}")

    def _is_healthy(self) -> bool:
        try:
            self.check(self.url)
        except StackError:
            return False
        return True

    def _command(self) -> list[str]:
        name = self.process.name
        peer = f"https://{LOOPBACK}:{self._ports[f'{name}_peer']}"
        members = ",".join(f"{one}=https://{LOOPBACK}:{self._ports[f'{one}_peer']}" for one in ETCDS)
        cert, key, ca = map(str, certificate_files(self._tls, "etcd"))
        options = {
            "name": name,
            "data-dir": str(self._home / "data"),
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": members,
            "initial-cluster-token": "ticketrush",
            "heartbeat-interval": str(HEARTBEAT_MS),
            "election-timeout": str(ELECTION_MS),
            "snapshot-count": str(_SNAPSHOT_AFTER),
            "auto-compaction-retention": "1",
            "logger": "zap",
            "log-level": "warn",
        }
        for who in ("", "peer-"):
            options |= {f"{who}cert-file": cert, f"{who}key-file": key, f"{who}trusted-ca-file": ca}
        command = [PROGRAM, "--client-cert-auth", "--peer-client-cert-auth"]
        return command + [f"--{option}={value}" for option, value in options.items()]


def tls_folder(run_dir: Path) -> Path:
    """Where the certificates of the three and of who may ask them are."""
    return run_dir / "etcd-tls"
