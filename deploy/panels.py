"""What the dashboards show: the table from which `python -m deploy.dashboards` makes them.

RabbitMQ's and postgres_exporter's own numbers begin with rabbitmq_ and pg_.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Panel:
    """A graph. `queries` has the PromQL by the legend of its lines; `unit` is Grafana's name of it."""

    title: str
    queries: Mapping[str, str]
    unit: str = "short"


@dataclass(frozen=True)
class Dashboard:
    """One page, and the question that it answers."""

    name: str
    title: str
    question: str
    panels: tuple[Panel, ...]


_OURS: Final = 'job="gateway", grpc_service=~"ticketrush.*"'
_UNARY: Final = 'job="gateway", grpc_type="unary", grpc_service=~"ticketrush.*"'


def _quantile(quantile: float, metric: str, by: str, selector: str = "") -> str:
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({quantile}, sum by ({labels}) (rate({metric}_bucket{{{selector}}}[1m])))"


def _mean(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}_sum[1m])) / sum by ({by}) (rate({metric}_count[1m]))"


SALE: Final = Dashboard(
    "sale",
    "Sale, live",
    "How does the sale go, and do callers notice anything?",
    (
        Panel(
            "Decisions a second", {"{{outcome}}": "sum by (outcome) (rate(ticketrush_reservations_decided_total[1m]))"}
        ),
        Panel(
            "Tickets, all events shown",
            {"{{state}}": "sum by (state) (max by (event_id, state) (ticketrush_event_tickets))"},
        ),
        Panel("Tickets left", {"{{event_id}}": 'max by (event_id) (ticketrush_event_tickets{state="AVAILABLE"})'}),
        Panel(
            "Calls a second",
            {"{{grpc_method}}": f"sum by (grpc_method) (rate(grpc_server_handled_total{{{_OURS}}}[1m]))"},
        ),
        Panel(
            "Calls that did not end well, a second",
            {"{{grpc_code}}": f'sum by (grpc_code) (rate(grpc_server_handled_total{{{_OURS}, grpc_code!="OK"}}[1m]))'},
        ),
        Panel(
            "Time until an answer, of the slowest in a hundred",
            {"{{grpc_method}}": _quantile(0.99, "grpc_server_handling_seconds", "grpc_method", _UNARY)},
            "s",
        ),
        Panel("Calls that wait for their outcome", {"{{instance}}": "ticketrush_gateway_waiting_calls"}),
        Panel("Streams", {"{{instance}}": "ticketrush_gateway_streams"}),
        Panel(
            "Share of calls refused to keep the others quick",
            {"{{grpc_method}}": "max by (grpc_method) (ticketrush_admission_refused_ratio)"},
            "percentunit",
        ),
        Panel("Holds", {"{{state}}": "max by (state) (ticketrush_holds)"}),
        Panel("Holds released a second", {"released": "sum(rate(ticketrush_holds_released_total[1m]))"}),
    ),
)
SERVICES: Final = Dashboard(
    "services",
    "Services",
    "Which service is in trouble?",
    (
        Panel("Answers Prometheus", {"{{job}} {{instance}}": "up"}),
        Panel("Serves", {"{{job}} {{instance}}": "ticketrush_serving"}),
        Panel(
            "Has what it waits for", {"{{job}} {{dependency}}": "min by (job, dependency) (ticketrush_dependency_up)"}
        ),
        Panel("CPU, cores", {"{{job}} {{instance}}": "rate(process_cpu_seconds_total[1m])"}),
        Panel("Memory", {"{{job}} {{instance}}": "process_resident_memory_bytes"}, "bytes"),
        Panel("Open files", {"{{job}} {{instance}}": "process_open_fds"}),
        Panel("Calls a second", {"{{job}}": "sum by (job) (rate(grpc_server_handled_total[1m]))"}),
        Panel(
            "Time of a call, of the slowest in a hundred",
            {"{{job}}": _quantile(0.99, "grpc_server_handling_seconds", "job", 'grpc_type="unary"')},
            "s",
        ),
        Panel("HTTP requests a second", {"{{code}}": "sum by (code) (rate(ticketrush_frontend_requests_total[1m]))"}),
        Panel(
            "Failures of jobs in 5 minutes",
            {"{{job_name}}": "sum by (job_name) (increase(ticketrush_job_failures_total[5m]))"},
        ),
    ),
)
BACKBONE: Final = Dashboard(
    "backbone",
    "Backbone",
    "Do messages flow?",
    (
        Panel("Connected to the broker", {"{{job}} {{connection}}": "ticketrush_amqp_connected"}),
        Panel(
            "Envelopes said a second",
            {"{{key}} {{outcome}}": "sum by (key, outcome) (rate(ticketrush_amqp_published_envelopes_total[1m]))"},
        ),
        Panel(
            "Envelopes taken a second",
            {"{{queue}}": "sum by (queue) (rate(ticketrush_amqp_consumed_envelopes_total[1m]))"},
        ),
        Panel(
            "Envelopes in a transaction, mean",
            {"{{queue}}": _mean("ticketrush_amqp_consumed_batch_envelopes", "queue")},
        ),
        Panel(
            "Envelopes put off to be tried again, a second",
            {"again": "sum(rate(ticketrush_amqp_retried_envelopes_total[1m])) or vector(0)"},
        ),
        Panel("Envelopes in a message, mean", {"{{job}}": _mean("ticketrush_amqp_published_batch_envelopes", "job")}),
        Panel(
            "From sending to confirm, of the slowest in a hundred",
            {"{{job}}": _quantile(0.99, "ticketrush_amqp_publish_seconds", "job")},
            "s",
        ),
        Panel(
            "Age of the oldest message not confirmed",
            {"{{job}}": "max by (job) (ticketrush_outbox_oldest_age_seconds)"},
            "s",
        ),
        Panel("Messages not confirmed", {"{{job}}": "max by (job) (ticketrush_outbox_depth)"}),
        Panel(
            "Messages that wait for a person",
            {"parked": "sum(max by (queue) (ticketrush_parked_messages)) or vector(0)"},
        ),
        Panel("Messages in queues", {"{{queue}}": "sum by (queue) (rabbitmq_detailed_queue_messages_ready)"}),
        Panel("Consumers", {"{{queue}}": "sum by (queue) (rabbitmq_detailed_queue_consumers)"}),
    ),
)
DATABASE: Final = Dashboard(
    "database",
    "Database",
    "Is the database the limit?",
    (
        Panel(
            "Transactions a second",
            {"{{job}}": "sum by (job) (rate(ticketrush_database_transaction_seconds_count[1m]))"},
        ),
        Panel(
            "Time of a transaction, of the slowest in a hundred",
            {"{{job}}": _quantile(0.99, "ticketrush_database_transaction_seconds", "job")},
            "s",
        ),
        Panel("Connections", {"{{job}} {{state}}": "sum by (job, state) (ticketrush_database_connections)"}),
        Panel(
            "Transactions that wait for a connection",
            {"{{job}}": "sum by (job) (ticketrush_database_waiting_transactions)"},
        ),
        Panel(
            "Seconds waited for a connection, a second",
            {"{{job}}": "sum by (job) (rate(ticketrush_database_wait_seconds_total[1m]))"},
        ),
        Panel(
            "Transactions run again a second",
            {"again": "sum(rate(ticketrush_amqp_transactions_repeated_total[1m])) or vector(0)"},
        ),
        Panel(
            "Connections of the server",
            {"{{state}}": "sum by (state) (pg_stat_activity_count)", "limit": "max(pg_settings_max_connections)"},
        ),
        Panel("Deadlocks a second", {"{{datname}}": "sum by (datname) (rate(pg_stat_database_deadlocks[1m]))"}),
        Panel("Size", {"{{datname}}": "max by (datname) (pg_database_size_bytes)"}, "bytes"),
    ),
)
MONEY: Final = Dashboard(
    "money",
    "Money",
    "Is every cent where it belongs?",
    (
        Panel("Money, in minor units", {"{{state}} {{currency}}": "max by (state, currency) (ticketrush_money_minor)"}),
        Panel("Payments a second", {"{{state}}": "sum by (state) (rate(ticketrush_payments_transitions_total[1m]))"}),
        Panel("Charges and refunds under way", {"{{work}}": "sum by (work) (ticketrush_payments_in_flight)"}),
        Panel(
            "Attempts without an answer a second",
            {"{{work}}": "sum by (work) (rate(ticketrush_payments_unanswered_total[1m]))"},
        ),
        Panel("Refunds overdue", {"overdue": "max(ticketrush_payments_refunds_overdue)"}),
        Panel(
            "Refunds refused in an hour", {"refused": "sum(increase(ticketrush_payments_refunds_refused_total[1h]))"}
        ),
        Panel(
            "Outcomes asked for again, a second",
            {"again": "sum(rate(ticketrush_outcomes_asked_again_total[1m])) or vector(0)"},
        ),
        Panel("Rows that break an invariant", {"{{invariant}}": "max by (invariant) (ticketrush_fsck_violations)"}),
        Panel(
            "Age of the last look at an invariant",
            {"{{invariant}}": "time() - max by (invariant) (ticketrush_fsck_last_run_time_seconds)"},
            "s",
        ),
    ),
)
DASHBOARDS: Final = (SALE, SERVICES, BACKBONE, DATABASE, MONEY)
