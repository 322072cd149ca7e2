"""The rare paths that a run took. A run that took none of what it is about proves nothing."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from chaos.checker.evidence import Evidence
from chaos.meters import REDELIVERED
from chaos.record import UNANSWERED, Request

LATE_APPROVAL: Final = "late approval"
REVIVAL: Final = "revival"
LANDED_LATE: Final = "charge landed late"
UNKNOWN_COMMIT: Final = "unknown commit"
DUPLICATE: Final = "duplicate"
REDELIVERY: Final = "redelivery"
RELAY: Final = "outbox relay"
RECONCILE: Final = "reconcile"
RETRY: Final = "retry ladder"

ALL: Final = (
    LATE_APPROVAL,
    REVIVAL,
    LANDED_LATE,
    UNKNOWN_COMMIT,
    DUPLICATE,
    REDELIVERY,
    RELAY,
    RECONCILE,
    RETRY,
)
# Those that the buyers alone see to, whatever breaks.
BY_BUYERS: Final = frozenset({LATE_APPROVAL, REVIVAL, LANDED_LATE, DUPLICATE})

# A card that is charged at once is known to be charged at once; later means that the answer was lost on its way.
LATE_AFTER_S: Final = 9.0


def taken(evidence: Evidence, sums: Mapping[str, int]) -> Counter[str]:
    """How often each path was taken: by history, by what clients saw, and by what the processes counted."""
    counts: Counter[str] = Counter()
    by_subject = defaultdict(list)
    for step in evidence.books.steps:
        by_subject[step.subject_id].append(step)
    for steps in by_subject.values():
        state = ""
        for before, step in pairwise(steps):
            state = before.kind if before.kind not in {"MONEY_CHANGED", "PAYMENT_OPENED"} else state
            if (state, step.kind) == ("EXPIRED", "SOLD"):
                counts[REVIVAL] += 1
            if step.kind == "MONEY_CHANGED" and step.refund_due_minor > before.refund_due_minor:
                counts[LATE_APPROVAL] += 1
    for step in evidence.books.payment_steps:
        if step.kind == "payment_approved":
            payment = evidence.payments.get(step.subject_id)
            if payment and step.occur_s - payment.create_s > LATE_AFTER_S:
                counts[LANDED_LATE] += 1
    for request in evidence.record.requests:
        counts[DUPLICATE] += len(request.answers) > 1
        counts[UNKNOWN_COMMIT] += _committed_unheard(evidence, request)
    counts[REDELIVERY] = sums[REDELIVERED] + sums["ticketrush_amqp_acks_lost_total"]
    counts[RELAY] = sums["ticketrush_outbox_relayed_messages_total"]
    counts[RECONCILE] = sums["ticketrush_outcomes_asked_again_total"]
    counts[RETRY] = sums["ticketrush_amqp_retried_envelopes_total"]
    return counts


def _committed_unheard(evidence: Evidence, request: Request) -> bool:
    """Whether a first attempt that ended without an answer, though its caller waited, had its effect all the same."""
    if request.call not in {"Reserve", "Pay"} or not request.answers:
        return False
    first = request.answers[0]
    if first.code not in UNANSWERED or (first.code == "DEADLINE_EXCEEDED" and first.end_s - first.begin_s < 1):
        return False
    key = (request.buyer_id, request.request_id)
    row = evidence.paid.get(key) if request.call == "Pay" else evidence.reserved.get(key)
    second_s = request.answers[1].begin_s if len(request.answers) > 1 else float("inf")
    return row is not None and row.create_s < second_s
