"""Stacks of their own for tests that kill and stop things."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack import Stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "run")
    yield stack
    stack.clean()


@pytest.fixture(scope="session")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """PostgreSQL and RabbitMQ that nobody else relies on."""
    stack = Stack(tmp_path_factory.mktemp("servers") / "run")
    stack.up(("postgres", "rabbitmq"))
    yield stack
    stack.clean()
