"""The composition root of the provider: `python -m provider`."""

from functools import partial
from pathlib import Path

from chassis import settings
from chassis.paging import PageTokens
from chassis.run import Process, run
from provider.group_commit import GroupCommit
from provider.servicer import Servicer
from provider.store import Store


class Settings(settings.Settings):
    """`store_path` is the SQLite file; it and its folder are made if missing."""

    store_path: Path


def compose(chosen: Settings) -> Process:
    """The provider's parts, put together."""
    group = GroupCommit(chosen.store_path)
    store = Store(group)
    servicer = Servicer(store, PageTokens())
    return Process(
        name="provider",
        settings=chosen,
        register=servicer.register,
        open=[store.open],
        close=[servicer.forget_delayed, group.close],
    )


if __name__ == "__main__":
    run(partial(compose, settings.load(Settings)))
