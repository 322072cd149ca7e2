"""The numbers of a process's pool of connections, as the pool itself counts them."""

from collections.abc import Mapping
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

# A transaction is a batch of work, so these are counted some hundred times a second at most.
TRANSACTION_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

transaction_seconds = Histogram(
    "ticketrush_database_transaction_seconds",
    "Seconds that committed transactions took, once they had a connection.",
    buckets=TRANSACTION_BUCKETS_S,
)
_connections = Gauge("ticketrush_database_connections", "Connections to the database.", ("state",))
_idle, _busy = (_connections.labels(state) for state in ("idle", "busy"))
_connections_max = Gauge("ticketrush_database_connections_max", "Connections that the process may have.")
_waiting = Gauge("ticketrush_database_waiting_transactions", "Transactions that wait for a connection.")
_wait_seconds = Counter("ticketrush_database_wait_seconds", "Seconds that transactions waited for a connection.")
_refused = Counter("ticketrush_database_refused_transactions", "Transactions that got no connection in time.")
_lost = Counter("ticketrush_database_connections_lost", "Connections that broke.")


def show(stats: Mapping[str, int]) -> None:
    """Shows what `AsyncConnectionPool.pop_stats` returns: how things are, and what has been counted since the last."""
    size, idle = stats["pool_size"], stats["pool_available"]
    _idle.set(idle)
    _busy.set(size - idle)
    _connections_max.set(stats["pool_max"])
    _waiting.set(stats["requests_waiting"])
    _wait_seconds.inc(stats.get("requests_wait_ms", 0) / 1_000)
    _refused.inc(stats.get("requests_errors", 0))
    _lost.inc(stats.get("connections_lost", 0))
