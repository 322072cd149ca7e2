"""What the audience sees: a line per happening, and what is being waited for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_SCENE_WIDTH: Final = 10


class Narrator:
    """Prints scenes that run side by side, each line with its time and scene; plain lines without a terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._begin = time.monotonic()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, scene: str, text: str, style: str = "") -> None:
        """One line of a scene. The text may hold rich markup: escape what people named."""
        elapsed_s = time.monotonic() - self._begin
        self.console.print(f"[dim]{elapsed_s:5.1f}s[/] [cyan]{scene:{_SCENE_WIDTH}}[/] {text}", style=style)

    @contextmanager
    def waiting(self, scene: str, what: str) -> Iterator[None]:
        """Shows that the scene waits for something, within the block."""
        task = self._progress.add_task(f"{escape(scene)}: waiting for {escape(what)}", total=None)
        try:
            yield
        finally:
            self._progress.remove_task(task)
