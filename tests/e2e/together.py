"""Scenes that take real time, played at the same time."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Final

Scene = Callable[..., Coroutine[Any, Any, None]]


class Together:
    """Marks the scenes of one module, which need some of the named fixtures each.

    The first that is run begins them all; each reports as a test of its own.
    """

    def __init__(self, *fixtures: str) -> None:
        keyword_only: Final = inspect.Parameter.KEYWORD_ONLY
        self._signature = inspect.Signature([inspect.Parameter(name, keyword_only) for name in fixtures])
        self._scenes: dict[str, Scene] = {}
        self._playing: dict[str, asyncio.Task[None]] = {}

    def __call__(self, scene: Scene) -> Scene:
        self._scenes[scene.__name__] = scene

        @wraps(scene)
        async def test(**fixtures: Any) -> None:
            if not self._playing:
                self._playing = {name: _begin(one, fixtures) for name, one in self._scenes.items()}
            await self._playing[scene.__name__]

        # What pytest looks at to know which fixtures to give.
        test.__signature__ = self._signature  # type: ignore[attr-defined]
        return test


def _begin(scene: Scene, fixtures: dict[str, Any]) -> asyncio.Task[None]:
    return asyncio.create_task(scene(**{name: fixtures[name] for name in inspect.signature(scene).parameters}))
