"""The metrics that RabbitMQ and PostgreSQL show by exporters, which do not run beside the tests' own servers.

Names as in the documentation of each: RabbitMQ's plugin rabbitmq_prometheus (pages /metrics and /metrics/detailed) from
3.10 on, postgres_exporter from 0.12 on.
"""

from typing import Final

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
