"""The line to the gateway, and what a call that fails looks like to the person at the terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import typer

from chassis.addresses import is_loopback
from chassis.bearer import bearing
from cli import failures
from cli.addresses import token_for, told_by_environment
from ticketrush.v1.catalog_pb2_grpc import CatalogServiceStub
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

CALL_TIMEOUT_S: Final = 10.0
"""How long a call may take beyond what it was told to wait."""


@dataclass(frozen=True)
class Gateway:
    """The public services."""

    ticketing: TicketingServiceStub
    catalog: CatalogServiceStub


@contextmanager
def connect(address: str, *, as_json: bool, request_id: str = "") -> Iterator[Gateway]:
    """The gateway at HOST:PORT, to call within the block.

    A call that fails there is told on standard error (with `request_id`, so that a write can be said again) and ends
    the command with the exit code of failures.py.
    """
    with dial(address) as channel:
        try:
            yield Gateway(TicketingServiceStub(channel), CatalogServiceStub(channel))
        except grpc.RpcError as error:
            if not isinstance(error, grpc.Call):  # it carries no status: not a call that ended
                raise
            failure = failures.understand(error)
            sys.stderr.write(failures.told(failure, address, request_id, as_json=as_json) + "\n")
            raise typer.Exit(failure.exit_code) from None


def dial(address: str) -> grpc.Channel:
    """A channel to HOST:PORT, whose calls show the token that there is for it. Nothing is sent yet.

    By TLS when TICKETRUSH_GATEWAY_TLS_CA names a file with the CAs. Raises typer.BadParameter when there is no such
    file, or when the token would leave this machine in plaintext without anybody having said that it may.
    """
    return bearing(_line(address), token_for(address))


def _line(address: str) -> grpc.Channel:
    if authorities := told_by_environment("GATEWAY_TLS_CA"):
        try:
            pem = Path(authorities).read_bytes()
        except OSError as error:
            raise typer.BadParameter(
                f"TICKETRUSH_GATEWAY_TLS_CA says {authorities!r}: {error.strerror or error}"
            ) from error
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(pem))
    if not is_loopback(address.rpartition(":")[0]) and told_by_environment("GATEWAY_PLAINTEXT") != "yes":
        raise typer.BadParameter(
            f"{address} is another machine, and your token would go there in plaintext: set TICKETRUSH_GATEWAY_TLS_CA "
            "to a PEM file with the CAs by which you know it (this machine's: /etc/ssl/certs/ca-certificates.crt); or, "
            "where nobody can listen in, TICKETRUSH_GATEWAY_PLAINTEXT=yes"
        )
    return grpc.insecure_channel(address)
