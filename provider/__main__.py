"""The composition root of the provider: `python -m provider`."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from chassis import settings
from chassis.guard import ByPeer
from chassis.paging import PageTokens
from chassis.run import Process, run
from contract import access
from provider.group_commit import GroupCommit
from provider.servicer import Servicer
from provider.store import Store


def _in_a_folder(path: Path) -> Path:
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"must be a file, in a folder that exists, not {path}")
    return path


class Settings(settings.Settings):
    """`store_path` is the SQLite file; it is made if missing."""

    store_path: Annotated[Path, AfterValidator(_in_a_folder)]


def compose(chosen: Settings) -> Process:
    """The provider's parts, put together."""
    group = GroupCommit(chosen.store_path)
    store = Store(group)
    servicer = Servicer(store, PageTokens())
    return Process(
        name="provider",
        settings=chosen,
        register=servicer.register,
        guard=ByPeer(access.PEERS_BY_METHOD, access.OPEN, has_names=chosen.tls is not None),
        open=[store.open],
        close=[servicer.forget_delayed, group.close],
    )


if __name__ == "__main__":
    run("provider", compose, settings.load(Settings))
