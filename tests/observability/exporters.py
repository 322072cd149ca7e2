"""The metrics that RabbitMQ and PostgreSQL show by exporters: RabbitMQ's own plugin, and Debian's postgres_exporter.

Names as in the documentation of each: RabbitMQ's plugin rabbitmq_prometheus (pages /metrics and /metrics/detailed) from
3.10 on, postgres_exporter from 0.11 on.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from deploy.ports import Ports, accepts
from deploy.prometheus import EXPORTER, exporter_command
from deploy.services import LOOPBACK
from tests.e2e.office import eventually
from tests.observability.running import running

RABBITMQ: Final = frozenset(
    {
        "rabbitmq_alarms_free_disk_space_watermark",
        "rabbitmq_alarms_memory_used_watermark",
        "rabbitmq_detailed_queue_consumers",
        "rabbitmq_detailed_queue_messages_ready",
    }
)
POSTGRES: Final = frozenset(
    {
        "pg_database_size_bytes",
        "pg_settings_max_connections",
        "pg_stat_activity_count",
        "pg_stat_database_deadlocks",
        "pg_up",
    }
)
ELSEWHERE: Final = RABBITMQ | POSTGRES
# What Prometheus itself says of each page that it asks.
PROMETHEUS: Final = frozenset({"up"})


@asynccontextmanager
async def postgres_exporter(database_url: str, folder: Path) -> AsyncIterator[str]:
    """The address of one that looks at this database."""
    port = Ports(folder).settle([EXPORTER], [])[EXPORTER]
    log = folder / f"{EXPORTER}.log"
    command, source = await asyncio.to_thread(exporter_command, database_url, f"{LOOPBACK}:{port}")
    async with running(command, log, source) as process:

        async def is_there() -> bool:
            assert process.returncode is None, log.read_text()
            return accepts(port)

        await eventually(is_there, lambda: f"{EXPORTER} does not listen:\n{log.read_text()}")
        yield f"{LOOPBACK}:{port}"
