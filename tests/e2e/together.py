"""Scenes that take real time, played at the same time."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from tests.e2e.house import House

Scene = Callable[[House], Coroutine[Any, Any, None]]


class Together:
    """Marks the scenes of one module. The first that is run begins them all; each reports as a test of its own."""

    def __init__(self) -> None:
        self._scenes: dict[str, Scene] = {}
        self._playing: dict[str, asyncio.Task[None]] = {}

    def __call__(self, scene: Scene) -> Scene:
        self._scenes[scene.__name__] = scene

        @wraps(scene)
        async def test(house: House) -> None:
            if not self._playing:
                self._playing = {name: asyncio.create_task(one(house)) for name, one in self._scenes.items()}
            await self._playing[scene.__name__]

        return test
