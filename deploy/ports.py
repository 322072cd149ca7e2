"""Loopback ports, chosen free once and kept from then on."""

import fcntl
import json
import secrets
import socket
import time
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Final

from deploy.errors import StackError
from deploy.lock import shared_folder
from deploy.process import wait_until, write_atomically
from deploy.services import LOOPBACK

# Below the range from which Linux takes the local port of outgoing connections (ip_local_port_range): a port that is
# ours while its service is down must not be lent to a client in between.
_RANGE: Final = range(20_000, 32_000)
_ATTEMPTS_MAX: Final = 1_000
# A port that was chosen is left alone by other stacks for so long: its owner may not listen yet, or be killed and come
# back. No longer, for nobody says when he is done with it.
CLAIM_S: Final = 1_200.0
_RELEASE_DEADLINE_S: Final = 2.0


class Ports:
    """Which port is whose under one run directory, remembered in `state/ports.json`."""

    def __init__(self, run_dir: Path) -> None:
        self._file = run_dir / "state" / "ports.json"
        self._chosen: dict[str, int] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def settle(
        self,
        wanted: Collection[str],
        held: Collection[str],
        preferred: Mapping[str, int] = MappingProxyType({}),
    ) -> dict[str, int]:
        """A port for each name: the one it had, unless somebody else took it meanwhile. `held` are in use by us.

        A name that is given its first one gets the `preferred` if that is free.
        """
        for name in wanted:
            port = self._chosen.get(name, preferred.get(name))
            if port is None or (name not in held and not becomes_free(port)):
                port = self._choose()
            self._chosen[name] = port
        write_atomically(self._file, json.dumps(self._chosen, indent=2))
        return {name: self._chosen[name] for name in wanted}

    @property
    def known(self) -> Mapping[str, int]:
        """All that were chosen so far."""
        return self._chosen

    def _choose(self) -> int:
        claims = shared_folder() / "ports"
        claims.mkdir(exist_ok=True)
        with (claims / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for _ in range(_ATTEMPTS_MAX):
                port = secrets.choice(_RANGE)
                claim = claims / str(port)
                if port not in self._chosen.values() and not _is_young(claim) and is_free(port):
                    claim.touch()
                    return port
        raise StackError(f"found no free port between {_RANGE.start} and {_RANGE.stop} on {LOOPBACK}")


def _is_young(claim: Path) -> bool:
    try:
        return time.time() - claim.stat().st_mtime < CLAIM_S
    except FileNotFoundError:
        return False


def becomes_free(port: int) -> bool:
    """Whether the port is free, or will be in a moment: the kernel closes the sockets of a killed process after it."""
    return wait_until(lambda: is_free(port), _RELEASE_DEADLINE_S)


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with closing(socket.socket()) as probe:
        # Connections that linger in TIME_WAIT do not keep a server from listening.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            # With SO_REUSEADDR two sockets may be bound to one port, but only one may listen.
            probe.listen()
        except OSError:
            return False
    return True


def accepts(port: int) -> bool:
    """Whether something listens on this loopback port."""
    with closing(socket.socket()) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0
