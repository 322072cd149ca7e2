"""Guards of payments, of what processes say to each other, and of the clock."""

from typing import Final

from tests.proof.guard import LOCKSTEP, Edit, Guard

PROCESSOR: Final = "payments/processor.py"
STORE: Final = "payments/store.py"
OUTBOX: Final = "chassis/outbox.py"
JOBS: Final = "scheduler/jobs.py"
INBOX: Final = "gateway/inbox.py"
GATEWAY_FAULTS: Final = "tests/gateway/test_gateway_faults.py"

PAYMENTS: Final = (
    Guard(
        "a charge is given up only behind a tombstone",
        (
            Edit(
                PROCESSOR,
                "    request = pb.CancelChargeRequest(payment_id=str(payment.payment_id))\n",
                "    return Refused(reason)\n"
                "    request = pb.CancelChargeRequest(payment_id=str(payment.payment_id))\n",
            ),
        ),
        ("tests/payments/test_unanswered.py::test_a_charge_that_lands_after_it_was_given_up_takes_no_money", LOCKSTEP),
    ),
    Guard(
        "charges of one payment have one idempotency key",
        (
            Edit(
                PROCESSOR,
                "pb.ChargeRequest(\n        payment_id=str(payment.payment_id),",
                "pb.ChargeRequest(\n        payment_id=str(__import__('uuid').uuid4()),",
            ),
        ),
        ("tests/payments/test_unanswered.py::test_a_lost_reply_is_asked_for_again_and_charges_once",),
    ),
    Guard(
        "a charge without an answer is not refused",
        (
            Edit(
                PROCESSOR,
                "        if error.code() not in _WRONG_CALL:\n            return Unanswered(_problem(error))\n",
                "        if error.code() not in _WRONG_CALL:\n"
                "            return Refused(reasons.PROVIDER_UNAVAILABLE)\n",
            ),
        ),
        ("tests/payments/test_unanswered.py::test_a_lost_reply_is_asked_for_again_and_charges_once",),
    ),
    Guard(
        "a payment is charged only when it was opened",
        (Edit("payments/charger.py", "                if refused is None:\n", "                if True:\n"),),
        ("tests/payments/test_pay.py::test_a_payment_that_reservations_refuse_is_never_charged",),
    ),
    Guard(
        "a leased payment is left to its process",
        (Edit(STORE, "WHERE state = {state} AND due_time <= clock_timestamp()", "WHERE state = {state}"),),
        ("tests/payments/test_crash.py::test_nobody_else_takes_a_payment_before_its_lease_runs_out",),
    ),
    Guard(
        "a Pay with another body is told apart",
        (Edit("payments/repeats.py", "elif not is_same_request(payment, request):", "elif False:"),),
        ("tests/payments/test_reused_request_id.py::test_another_body_is_refused",),
    ),
    Guard(
        "only a pending payment is settled",
        (
            Edit(
                "payments/domain.py",
                "    if payment.state is not PaymentState.PENDING:\n        return None\n    known",
                "    known",
            ),
        ),
        ("tests/payments/test_crash.py::test_a_result_that_comes_late_or_again_changes_nothing",),
    ),
    Guard(
        "money moves only with its ledger entries",
        (Edit("payments/moves.py", "    if entries:\n", "    if not entries:\n"),),
        ("tests/payments/test_pay.py::test_a_payment_is_approved_with_history_fact_and_ledger",),
    ),
)

MESSAGES: Final = (
    Guard(
        "a gateway has another queue with each connection",
        (
            Edit(
                INBOX,
                '        name = f"gateway.{self._kind}.{uuid4().hex}"\n',
                '        name = f"gateway.{self._kind}.the-same"\n',
            ),
        ),
        (f"{GATEWAY_FAULTS}::test_a_broker_that_takes_a_lost_connection_for_alive_keeps_nobody_waiting",),
    ),
    Guard(
        "a queue that is gone is not made again beside its consumer",
        (
            Edit(
                INBOX,
                "channel.declare_queue(queue.name, passive=True, timeout",
                "channel.declare_queue(queue.name, exclusive=True, auto_delete=True, arguments=_ARGUMENTS, timeout",
            ),
        ),
        (f"{GATEWAY_FAULTS}::test_a_queue_that_is_gone_behind_its_consumer_is_missed",),
    ),
    Guard(
        "a commit is not cut short",
        (Edit("chassis/database.py", "await asyncio.shield(commit)", "await commit"),),
        ("tests/chassis/test_transactions.py::test_a_commit_under_way_is_not_cut_short_when_its_task_is_cancelled",),
    ),
    Guard(
        "what is committed is owed: the outbox",
        (Edit(OUTBOX, "FROM written WHERE routing_key IS NOT NULL", "FROM written WHERE false"),),
        (
            "tests/chassis/test_outbox.py::test_a_process_that_dies_after_its_commit_is_spoken_for",
            "tests/proof/test_crash_points.py::test_processes_that_end_at_their_points_leave_no_zombie_and_no_ghost",
        ),
    ),
    Guard(
        "what another process is saying is left to it",
        (
            Edit(
                OUTBOX,
                "SELECT history_id FROM outbox WHERE lease_time < statement_timestamp()",
                "SELECT history_id FROM outbox",
            ),
        ),
        ("tests/chassis/test_outbox.py::test_what_another_process_is_saying_is_left_to_it",),
    ),
    Guard(
        "only what was confirmed is no longer owed",
        (Edit(OUTBOX, "if not future.cancelled() and future.exception() is None:", "if True:"),),
        ("tests/chassis/test_outbox.py::test_what_the_broker_never_confirmed_is_said_again",),
    ),
    Guard(
        "nothing is said before its commit",
        (
            Edit(
                "reservations/handlers/desk.py",
                "                    written = await self.outbox.write(conn, list(records(books.steps)))\n",
                "                    written = await self.outbox.write(conn, list(records(books.steps)))\n"
                "                    self.outbox.publish(written)\n",
            ),
        ),
        ("tests/reservations/test_telling.py::test_nothing_is_said_of_what_was_rolled_back",),
    ),
    Guard(
        "a message is acked behind its commit",
        (
            Edit(
                "chassis/intake.py",
                "                await settle(batch)\n                await self._ack(batch)\n",
                "                await self._ack(batch)\n                await settle(batch)\n",
            ),
        ),
        ("tests/chassis/test_consumer.py::test_a_message_is_acked_only_after_its_handler_returned",),
    ),
    Guard(
        "a batch is acked with what came before it only when that is done",
        (Edit("chassis/intake.py", "                if self._in_hand[0] is batch:\n", "                if True:\n"),),
        ("tests/chassis/test_consumer.py::test_the_second_of_two_batches_is_acked_without_the_first",),
    ),
    Guard(
        "a worker that fails stops the acks of its connection",
        (Edit("chassis/intake.py", "                self._consuming = None\n", ""),),
        ("tests/chassis/test_consumer.py::test_a_worker_that_fails_beside_another_gives_its_own_batch_back",),
    ),
    Guard(
        "what has a required consumer is mandatory",
        (Edit("chassis/publisher.py", "mandatory = lane.key in self._mandatory", "mandatory = False"),),
        ("tests/chassis/test_publisher.py::test_what_nobody_is_bound_to_take_is_not_taken",),
    ),
    Guard(
        "a confirm is awaited",
        (
            Edit(
                "chassis/sender.py",
                "await self.link.channel(connection, confirms=True)",
                "await self.link.channel(connection)",
            ),
        ),
        ("tests/chassis/test_publisher.py::test_a_full_queue_refuses",),
    ),
    Guard(
        "a poisoned envelope takes no other along",
        (Edit("chassis/attempts.py", "if is_transient(error) or len(envelopes) == 1:", "if True:"),),
        ("tests/chassis/test_consumer.py::test_an_error_of_the_batch_is_looked_for_in_parts",),
    ),
    Guard(
        "a suspect is taken alone",
        (Edit("chassis/intake.py", "return delivery.redeliveries >= ALONE_AFTER_REDELIVERIES", "return False"),),
        ("tests/chassis/test_consumer.py::test_a_message_that_came_back_three_times_is_taken_alone",),
    ),
    Guard(
        "a database that is gone is waited for",
        (Edit("chassis/attempts.py", "            if is_database_down(error):\n", "            if False:\n"),),
        (
            "tests/chassis/test_attempts.py::test_a_database_that_is_gone_outlasts_any_number_of_attempts_and_fails_nobody",
        ),
    ),
    Guard(
        "a Pay is not answered before its money is anywhere",
        (
            Edit(
                "gateway/waiters.py",
                'if outcome.HasField("payment") and outcome.payment.state in _UNDECIDED:',
                "if False:",
            ),
        ),
        ("tests/gateway/test_gateway_writes.py::test_pay_is_not_answered_by_a_payment_that_is_undecided",),
    ),
)

ADMISSION: Final = (
    Guard(
        "a crowd that would wait too long is refused",
        (Edit("chassis/admission.py", "return self.share > 0 and random.random() < self.share", "return False"),),
        (
            "tests/chassis/test_admission.py::test_a_crowd_that_would_wait_too_long_is_refused_at_once_and_the_next_are_served",
        ),
    ),
    Guard(
        "calls that find no room are refused",
        (
            Edit("chassis/admission.py", "if self.limit is not None and not self.limit.has_room:", "if False:"),
            Edit("chassis/observer.py", "if self._limit and not self._limit.has_room:", "if False:"),
        ),
        ("tests/chassis/test_admission.py::test_who_finds_no_room_is_refused_unread_and_let_in_once_there_is",),
    ),
    Guard(
        "a pause is no rush",
        (Edit("chassis/admission.py", "standing_s = min(self._recent_s)", "standing_s = delay_s"),),
        ("tests/chassis/test_admission.py::test_a_pause_costs_nobody_a_place",),
    ),
    Guard(
        "a full house is no rush",
        (Edit("chassis/admission.py", "change = min(change, 0.0)", "pass"),),
        ("tests/chassis/test_admission.py::test_a_full_house_is_no_rush",),
    ),
    Guard(
        "a slow probe is forgotten when nobody comes",
        (Edit("chassis/admission.py", "            self._took_s = 0.0\n", "            pass\n"),),
        ("tests/chassis/test_admission.py::test_a_probe_that_was_slow_is_forgotten_when_nobody_comes",),
    ),
    Guard(
        "few slow calls do not shrink the limit",
        (Edit("chassis/admission.py", "if (is_in_use or self._ended >= FEW) and", "if"),),
        ("tests/chassis/test_admission.py::test_the_limit_is_not_shrunk_by_slow_calls_that_are_few",),
    ),
    Guard(
        "plans read no whole table",
        (Edit("chassis/database.py", '"enable_seqscan": "off"', '"enable_seqscan": "on"'),),
        ("tests/reservations/test_plans.py::test_a_batch_looks_up_only_what_it_is_about",),
    ),
    Guard(
        "a call that ends leaves its place",
        (Edit("chassis/admission.py", "        self._running -= 1\n", ""),),
        ("tests/chassis/test_admission.py::test_a_call_that_its_caller_gave_up_leaves_its_place",),
    ),
)

CLOCK: Final = (
    Guard(
        "the sweep runs",
        (Edit(JOBS, "            (self.release_due_holds, SWEEP_INTERVAL_S),\n", ""),),
        ("tests/scheduler/test_jobs.py::test_a_hold_whose_time_is_over_is_released",),
    ),
    Guard(
        "how late releases are is measured apart from them",
        (Edit(JOBS, "            (self.measure_expiry_lag, SWEEP_INTERVAL_S),\n", ""),),
        ("tests/scheduler/test_jobs.py::test_how_late_releases_are_is_known_while_they_fail",),
    ),
    Guard(
        "openings without an outcome are asked after",
        (Edit(JOBS, "            (self.reconcile_openings, RECONCILE_INTERVAL_S),\n", ""),),
        ("tests/scheduler/test_jobs.py::test_payments_are_asked_for_outcomes_that_are_missing",),
    ),
    Guard(
        "refunds that are due are asked for again",
        (Edit(JOBS, "            (self.reconcile_refunds, RECONCILE_INTERVAL_S),\n", ""),),
        ("tests/scheduler/test_jobs.py::test_refunds_that_are_due_are_asked_for_again",),
    ),
    Guard(
        "events called off are settled",
        (Edit(JOBS, "            (self.call_off_events, SWEEP_INTERVAL_S),\n", ""),),
        ("tests/scheduler/test_jobs.py::test_an_event_called_off_is_settled",),
    ),
)
