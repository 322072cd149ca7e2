"""The whole product, as the tests of it use it."""

from tests.e2e.conftest import house

__all__ = ["house"]
