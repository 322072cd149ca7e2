"""The numbers of a process, at http://METRICS_ADDRESS/metrics."""

from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import Counter, Histogram, start_http_server

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_LABELS = ("grpc_type", "grpc_service", "grpc_method")
# Names as in the gRPC ecosystem's Prometheus middleware, so that existing dashboards fit.
grpc_started = Counter("grpc_server_started", "RPCs started on this server.", _LABELS)
grpc_handled = Counter("grpc_server_handled", "RPCs completed on this server, by code.", (*_LABELS, "grpc_code"))
grpc_received = Counter("grpc_server_msg_received", "Messages of RPCs that were taken up.", _LABELS)
grpc_sent = Counter("grpc_server_msg_sent", "Messages sent by RPCs.", _LABELS)
grpc_seconds = Histogram(
    "grpc_server_handling_seconds", "Seconds until an RPC completed.", _LABELS, buckets=LATENCY_BUCKETS_S
)


def serve(address: str) -> tuple[WSGIServer, Thread]:
    """Starts the metrics page on HOST:PORT in a thread. Raises OSError when the port is taken."""
    host, _, port = address.rpartition(":")
    return start_http_server(int(port), host)
