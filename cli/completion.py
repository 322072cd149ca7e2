"""What the shell offers when somebody presses Tab in the place of an id."""

import re
from typing import Final
from uuid import UUID

import grpc
import typer

from cli.addresses import gateway_address
from cli.gateway import dial
from ticketrush.v1.catalog_pb2 import ListEventsRequest
from ticketrush.v1.catalog_pb2_grpc import CatalogServiceStub

# Nobody waits longer for a Tab.
TIMEOUT_S: Final = 1.0
EVENTS_MAX: Final = 50
NAME_LENGTH_MAX: Final = 40
# Shells evaluate what they are offered: of a name that others wrote, nothing is left that one could act upon.
_ACTS_ON_SHELLS: Final = re.compile(r"[^\w ,.-]")


def event_ids(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of the newest events, with their names where the shell shows them; none if the gateway is not quick."""
    try:
        with dial(ctx.params.get("address") or gateway_address()) as channel:
            request = ListEventsRequest(page_size=EVENTS_MAX)
            found = CatalogServiceStub(channel).ListEvents(request, timeout=TIMEOUT_S).events
        offered = [(str(UUID(one.event_id)), _ACTS_ON_SHELLS.sub("_", one.name)[:NAME_LENGTH_MAX]) for one in found]
    except (grpc.RpcError, typer.BadParameter, ValueError):
        return []
    return [one for one in offered if one[0].startswith(incomplete)]
