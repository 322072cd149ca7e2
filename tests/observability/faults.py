"""For each alert: how its series look in good times and under its fault, and what a person is then told.

Time goes by the minute: good until FAULT_BEGIN_MIN, the fault until FAULT_END_MIN, then good again. Good is as near to
the fault as it may come.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

FAULT_BEGIN_MIN: Final = 30
FAULT_END_MIN: Final = 200
END_MIN: Final = 300

Line = Callable[[], list[float | None]]


@dataclass(frozen=True)
class Fault:
    """One case of one alert; `labels` and `summary` are as they are at the fault's last minute."""

    alert: str
    series: Mapping[str, Line]
    labels: Mapping[str, str]
    summary: str


def stays(value: float) -> Line:
    """The same all the time."""
    return lambda: [value] * END_MIN


def goes(good: float | None, bad: float | None) -> Line:
    """A gauge; None is a series that is not there."""
    return lambda: [bad if _is_bad(minute) else good for minute in range(END_MIN)]


def rises(good: float, bad: float) -> Line:
    """A counter, by how much it rises in a minute."""

    def line() -> list[float | None]:
        total, values = 0.0, list[float | None]()
        for minute in range(END_MIN):
            total += bad if _is_bad(minute) else good
            values.append(total)
        return values

    return line


def rises_once() -> Line:
    """A counter that has shown 0, and counts one when the fault ends."""
    return lambda: [float(minute >= FAULT_END_MIN - 2) for minute in range(END_MIN)]


def told() -> Line:
    """The time of something that happens each minute, but not under the fault."""
    return lambda: [60 * (FAULT_BEGIN_MIN if _is_bad(minute) else minute) for minute in range(END_MIN)]


def told_until_gone() -> Line:
    """The same, of a process that is gone under the fault."""
    return lambda: [None if _is_bad(minute) else 60 * minute for minute in range(END_MIN)]


def _is_bad(minute: int) -> bool:
    return FAULT_BEGIN_MIN <= minute < FAULT_END_MIN


def _calls(code: str, good: float, bad: float) -> dict[str, Line]:
    """A thousand calls a minute at the gateway that end well, and some that do not."""
    name = 'grpc_server_handled_total{job="gateway", grpc_service="ticketrush.v1.TicketingService", grpc_code="%s"}'
    return {name % "OK": rises(1000, 1000), name % code: rises(good, bad)}


def _slow(le: str, good: float, bad: float) -> dict[str, Line]:
    name = (
        'grpc_server_handling_seconds_bucket{job="gateway", grpc_type="unary", grpc_method="Reserve",'
        ' grpc_service="ticketrush.v1.TicketingService", le="%s"}'
    )
    return {name % le: rises(good, bad)}


# A shard; what comes again has the name without its number.
QUEUE: Final = '{vhost="/", queue="reservations.commands.0"}'
# Whoever waits in a queue that has no consumer by its nature: the retry ladder.
LADDER: Final = '{vhost="/", queue="reservations.commands.retry.5s"}'
SCHEDULER: Final = 'job="scheduler", instance="s:1"'

FAULTS: Final = (
    Fault(
        "InvariantBroken",
        {'ticketrush_fsck_violations{job="scheduler", invariant="tickets"}': goes(0, 3)},
        {"invariant": "tickets"},
        "the invariant tickets is broken, tickets or money may be wrong: 3",
    ),
    Fault(
        "InvariantNotChecked",
        {'ticketrush_fsck_last_run_time_seconds{job="scheduler", invariant="tickets"}': told()},
        {"job": "scheduler", "invariant": "tickets"},
        "scheduler has not checked tickets for 2h 49m 0s",
    ),
    Fault(
        "InvariantNotChecked",
        {
            'process_start_time_seconds{job="payments"}': stays(0),
            'ticketrush_fsck_last_run_time_seconds{job="payments", invariant="ledger"}': goes(20_000, None),
        },
        {"job": "payments"},
        "payments has not checked any invariant for 3h 19m 0s",
    ),
    Fault(
        "ServiceDown",
        {'up{job="gateway", instance="g:1"}': goes(1, 0), 'up{job="postgres", instance="p:1"}': stays(0)},
        {"job": "gateway", "instance": "g:1"},
        "gateway at g:1 does not answer: it is gone or hangs",
    ),
    Fault(
        "ServiceNotServing",
        {'ticketrush_serving{job="payments", instance="p:1"}': goes(1, 0)},
        {"job": "payments", "instance": "p:1"},
        "payments at p:1 runs, but waits for something and does not serve",
    ),
    Fault(
        "DatabaseAway",
        {
            f'ticketrush_dependency_up{{{SCHEDULER}, dependency="database"}}': goes(1, 0),
            f'ticketrush_dependency_up{{{SCHEDULER}, dependency="broker"}}': stays(0),
        },
        {"job": "scheduler", "instance": "s:1", "dependency": "database"},
        "the database does not answer scheduler: nothing is sold",
    ),
    Fault(
        "DatabaseAway",
        {'pg_up{job="postgres"}': goes(1, 0)},
        {"job": "postgres"},
        "the database does not answer postgres: nothing is sold",
    ),
    Fault(
        "DatabaseShortOfConnections",
        {'ticketrush_database_waiting_transactions{job="reservations"}': goes(0, 1)},
        {"job": "reservations"},
        "the database is too slow for reservations: its connections are all busy",
    ),
    Fault(
        "DatabaseShortOfConnections",
        {
            'pg_stat_activity_count{job="postgres", instance="p:1", state="idle"}': stays(60),
            'pg_stat_activity_count{job="postgres", instance="p:1", state="active"}': goes(20, 21),
            'pg_settings_max_connections{job="postgres", instance="p:1"}': stays(100),
        },
        {"job": "postgres", "instance": "p:1"},
        "the database is too slow for postgres: its connections are all busy",
    ),
    Fault(
        "BrokerAway",
        {'ticketrush_amqp_connected{job="gateway", connection="gateway.commands"}': goes(1, 0)},
        {"job": "gateway", "connection": "gateway.commands"},
        "gateway has no connection to the broker (gateway.commands)",
    ),
    Fault(
        "BrokerAlarm",
        {'rabbitmq_alarms_memory_used_watermark{job="rabbitmq"}': goes(0, 1)},
        {"job": "rabbitmq"},
        "RabbitMQ is short of memory or disk and takes no messages",
    ),
    Fault(
        "BrokerAlarm",
        {'rabbitmq_alarms_free_disk_space_watermark{job="rabbitmq"}': goes(0, 1)},
        {"job": "rabbitmq"},
        "RabbitMQ is short of memory or disk and takes no messages",
    ),
    Fault(
        "ConsumerStopped",
        {
            f"rabbitmq_detailed_queue_consumers{QUEUE}": goes(1, 0),
            f"rabbitmq_detailed_queue_consumers{LADDER}": stays(0),
        },
        {"vhost": "/", "queue": "reservations.commands.0"},
        "nobody takes messages from reservations.commands.0",
    ),
    Fault(
        "QueueGrows",
        {
            f"rabbitmq_detailed_queue_messages_ready{QUEUE}": goes(1000, 1001),
            f"rabbitmq_detailed_queue_messages_ready{LADDER}": stays(9000),
        },
        {"vhost": "/", "queue": "reservations.commands.0"},
        "1001 messages wait in reservations.commands.0: they come faster than they are taken",
    ),
    Fault(
        "MessageParked",
        # Both who share a schema count the same.
        {
            f'ticketrush_parked_messages{{job="{job}", queue="payments.refunds"}}': goes(None, 1)
            for job in ("payments", "payments-2")
        },
        {"queue": "payments.refunds"},
        "messages of payments.refunds could not be taken in and wait for you: 1",
    ),
    Fault(
        "MessageUnroutable",
        {
            'ticketrush_amqp_published_envelopes_total{job="gateway", key="k", outcome="Unroutable"}': rises_once(),
            'ticketrush_amqp_published_envelopes_total{job="gateway", key="k", outcome="confirmed"}': rises(9, 9),
        },
        {"job": "gateway", "key": "k"},
        "no queue takes k, which gateway says",
    ),
    Fault(
        "OutboxOld",
        {'ticketrush_outbox_oldest_age_seconds{job="payments"}': goes(30, 31)},
        {"job": "payments"},
        "something that payments committed 31s ago has not reached the broker",
    ),
    Fault(
        "HoldsNotReleased",
        {'ticketrush_expiry_lag_seconds{job="scheduler"}': goes(8, 9)},
        {},
        "a hold is 9s over its time, and its seats are not back on sale",
    ),
    Fault(
        "SweepStopped",
        {
            f'ticketrush_job_last_success_time_seconds{{{SCHEDULER}, job_name="release_due_holds"}}': told(),
            f'ticketrush_job_last_success_time_seconds{{{SCHEDULER}, job_name="call_off_events"}}': stays(0),
        },
        {},
        "no sweep has released holds for 2h 49m 0s",
    ),
    Fault(
        "SweepStopped",
        {f'ticketrush_job_last_success_time_seconds{{{SCHEDULER}, job_name="release_due_holds"}}': told_until_gone()},
        {},
        "no sweep has released holds for 2h 50m 0s",
    ),
    Fault(
        "JobFails",
        {'ticketrush_job_failures_total{job="scheduler", job_name="call_off_events"}': rises(0.5, 1)},
        {"job_name": "call_off_events"},
        "the scheduler's call_off_events fails again and again",
    ),
    Fault(
        "ProviderSilent",
        {
            'ticketrush_payments_unanswered_total{job="payments", work="charges"}': rises(0, 1),
            'ticketrush_payments_unanswered_total{job="payments", work="refunds"}': rises(9, 9),
        },
        {},
        "the card processor does not answer: payments stay PENDING",
    ),
    Fault(
        "RefundOverdue",
        {'ticketrush_payments_refunds_overdue{job="payments"}': goes(0, 2)},
        {},
        "buyers wait for their money for more than a minute: 2",
    ),
    Fault(
        "RefundRefused",
        {'ticketrush_payments_refunds_refused_total{job="payments"}': rises_once()},
        {},
        "the card processor refuses to give a buyer's money back: it will not happen by itself",
    ),
    Fault(
        "OutcomesAskedAgain",
        {'ticketrush_outcomes_asked_again_total{job="scheduler", kind="opening"}': rises(0, 1)},
        {"kind": "opening"},
        "outcomes of openings are missing, and stay so",
    ),
    Fault(
        "CallersGetUnavailable",
        _calls("UNAVAILABLE", 10, 250),
        {},
        "20% of all calls end as UNAVAILABLE: something behind the gateway is away",
    ),
    Fault("CallsFail", _calls("INTERNAL", 1, 250), {}, "20% of all calls fail by a defect of ours"),
    Fault(
        "CallsSlow",
        _slow("0.5", 990, 900) | _slow("1", 1000, 900) | _slow("2.5", 1000, 1000) | _slow("+Inf", 1000, 1000),
        {"grpc_method": "Reserve"},
        "one Reserve in a hundred takes longer than 2.35s",
    ),
    Fault(
        "CallsRefused",
        _calls("RESOURCE_EXHAUSTED", 50, 250),
        {},
        "20% of all calls are told to come back later: more is asked for than can be done",
    ),
    *(
        Fault(
            "StreamsEnded",
            {f'{metric}{{job="{job}"}}': rises(10, 12)},
            {"job": job},
            f"{job} ended 60 streams in 5 minutes: their readers could not keep up",
        )
        for metric, job in (
            ("ticketrush_gateway_slow_readers_total", "gateway"),
            ("ticketrush_grpc_stalled_readers_total", "gateway"),
            ("ticketrush_frontend_slow_readers_total", "frontend"),
        )
    ),
)
