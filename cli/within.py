"""The line to a service within, which lets in only those who show a certificate."""

from pathlib import Path

import grpc

from chassis import channels
from chassis.tls import Tls
from cli.addresses import told
from deploy.services import OPERATOR, TLS_DIR, certificate_files


def dial(address: str, peer: str) -> grpc.aio.Channel:
    """A channel to a service by its HOST:PORT and its name, to be made in the loop that uses it.

    The certificate is the operator's, from the folder that the environment or the local stack's file names; when
    neither does, it is plaintext. Raises UnusableCertificateError.
    """
    folder = told(TLS_DIR)
    tls = Tls(*certificate_files(Path(folder), OPERATOR)) if folder else None
    # A proxy that the environment names for the outside world knows no service of ours.
    return channels.dial(address, ("grpc.enable_http_proxy", 0), tls=tls, peer=peer)
