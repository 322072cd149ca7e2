"""The manifests, put together once."""

from collections.abc import Mapping, Sequence

import pytest

from tests.kubernetes.check import TRIAL, rendered
from tests.kubernetes.page import secrets_made
from tests.kubernetes.render import Object, OfflineError, kustomize

Parts = Mapping[str, Sequence[Object]]


@pytest.fixture(scope="session")
def parts() -> Parts:
    try:
        return rendered(kustomize())
    except OfflineError as error:
        pytest.skip(f"offline: {error}")


@pytest.fixture(scope="session")
def base(parts: Parts) -> Sequence[Object]:
    return parts["base"]


@pytest.fixture(scope="session")
def highly_available(parts: Parts) -> Sequence[Object]:
    return parts["highly-available"]


@pytest.fixture(scope="session")
def trial(parts: Parts) -> Sequence[Object]:
    """With the simulated card processor."""
    return parts[TRIAL]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, str], str]:
    """The secrets that the page tells to make, by name and key."""
    return secrets_made(tmp_path_factory.mktemp("kubectl"))
