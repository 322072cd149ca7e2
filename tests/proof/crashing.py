"""Runs a service that ends at a point, life after life: `python -m tests.proof.crashing NAME --at POINT --memory FILE`.

Each end is a line on stdout, and the next life begins at once: a fork of this process, which has only imported what the
service will need. Without `--at` it notes in FILE what passes any of its points, and ends at none.
"""

import argparse
import importlib
import os
import runpy
import signal
import sys
from pathlib import Path

from tests.proof.fuse import EXIT_CODE, Fuse
from tests.proof.points import CALLS_OF, install, points_of


class Lives:
    """One child after the other, until SIGTERM or until one ends otherwise than at the point."""

    def __init__(self, name: str, points: list[str], memory: Path, *, counting: bool) -> None:
        self._name = name
        self._points = points
        self._memory = memory
        self._counting = counting
        self._child = 0
        self._stopping = False

    def live(self) -> int:
        """The exit code of the last child."""
        signal.signal(signal.SIGTERM, self._stop)
        code = EXIT_CODE
        while code == EXIT_CODE and not self._stopping:
            self._child = os.fork()
            if not self._child:
                self._be()
            _, status = os.waitpid(self._child, 0)
            code = os.waitstatus_to_exitcode(status)
            if code == EXIT_CODE:
                print("ended", flush=True)  # noqa: T201 # told to whoever started us
        # Whoever is asked to stop before it listens for that just ends.
        return 0 if self._stopping and code in (EXIT_CODE, -signal.SIGTERM) else code

    def _stop(self, *_: object) -> None:
        self._stopping = True
        if self._child:
            os.kill(self._child, signal.SIGTERM)

    def _be(self) -> None:
        """The child: the service, by its own composition root."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.dup2(2, 1)
        for point in self._points:
            install(self._name, point, Fuse(point, self._memory, counting=self._counting))
        code = 1
        try:
            runpy.run_module(self._name, run_name="__main__", alter_sys=True)
            code = 0
        finally:
            os._exit(code)


def main() -> None:
    """Ends with the exit code of the last life."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=CALLS_OF)
    parser.add_argument("--at")
    parser.add_argument("--memory", type=Path, required=True)
    chosen = parser.parse_args()
    importlib.import_module(f"{chosen.name}.__main__")
    points = [chosen.at] if chosen.at else points_of(chosen.name)
    sys.exit(Lives(chosen.name, points, chosen.memory, counting=not chosen.at).live())


if __name__ == "__main__":
    main()
