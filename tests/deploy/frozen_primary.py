"""Run by Debian's Python as Patroni is: a primary sleeps through its lock, another takes it, the first one wakes.

The argument is the etcd that keeps the lock, HOST:PORT. Prints whether the first one still takes itself for the
primary, and who has the lock.
"""

import sys
import time
from typing import Any

from patroni.dcs import get_dcs

TTL_S = 2
POLL_INTERVAL_S = 0.1


def member(name: str) -> Any:
    """Its hold on etcd."""
    times = {"ttl": TTL_S, "loop_wait": 1, "retry_timeout": 3}
    return get_dcs({"etcd3": {"host": sys.argv[1]}, "scope": "frozen", "name": name, **times})


def sees(member: Any, leader: str | None) -> Any:
    """What it has read, once that names this leader."""
    while (read := member.get_cluster()).leader_name != leader:
        time.sleep(POLL_INTERVAL_S)
    return read


def main() -> None:
    one, other = member("one"), member("other")
    one.attempt_to_acquire_leader()
    last_read = sees(one, "one")
    sees(other, "one")
    # Asleep, it renews nothing.
    sees(other, None)
    other.attempt_to_acquire_leader()
    sees(other, "other")
    still = one.update_leader(last_read, None)
    # Whoever reads it now for the first time sees what is there.
    sys.stdout.write(f"{still} {member('witness').get_cluster().leader_name}\n")


if __name__ == "__main__":
    main()
