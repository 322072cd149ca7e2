"""Guards against whoever takes too much: of a port, of an event, of a stream."""

from typing import Final

from tests.proof.guard import Edit, Guard

BUCKETS: Final = "chassis/buckets.py"
CHASSIS_LIMITS: Final = "chassis/limits.py"
INTERCEPTOR: Final = "chassis/interceptor.py"
OBSERVER: Final = "chassis/observer.py"
HERE: Final = "tests/chassis/test_limits.py::"

LIMITS: Final = (
    Guard(
        "a caller has a rate",
        (
            Edit(
                INTERCEPTOR,
                "if self._limits is not None and (wait_s := self._limits.caller_wait_s(caller)):",
                "if (wait_s := 0.0):",
            ),
        ),
        (f"{HERE}test_who_calls_too_often_is_refused_unread_and_others_are_not",),
    ),
    Guard(
        "an address has a rate",
        (Edit(OBSERVER, "if wait_s := self._limits.address_wait_s(context):", "if wait_s := 0.0:"),),
        (
            f"{HERE}test_an_address_that_calls_too_often_is_refused_unparsed_whoever_calls",
            "tests/gateway/test_gateway_limits.py::test_an_address_that_calls_too_often_is_told_when_it_may_again",
        ),
    ),
    Guard(
        "only trusted proxies are believed",
        (Edit(CHASSIS_LIMITS, "if is_proxy and (told := _forwarded(context)):", "if told := _forwarded(context):"),),
        (f"{HERE}test_nobody_else_is_believed_who_he_is",),
    ),
    Guard(
        "of a proxy the last hop counts",
        (Edit(CHASSIS_LIMITS, 'return told.rpartition(",")[2].strip()', 'return told.partition(",")[0].strip()'),),
        (f"{HERE}test_of_a_trusted_proxy_the_last_hop_counts",),
    ),
    Guard(
        "an IPv6 customer is one address",
        (
            Edit(
                CHASSIS_LIMITS,
                'return f"{int(ip) >> (128 - IPV6_PREFIX):x}/{IPV6_PREFIX}"',
                "return str(ip)",
            ),
        ),
        (f"{HERE}test_an_ipv6_customer_is_one_address_with_its_whole_network",),
    ),
    Guard(
        "a request has a size",
        (Edit(OBSERVER, "if self._bytes_max is not None and len(sent) > self._bytes_max:", "if False:"),),
        (
            f"{HERE}test_a_request_that_is_larger_than_any_right_one_is_refused_unparsed",
            "tests/gateway/test_gateway_limits.py::test_a_call_that_never_needs_much_room_has_none",
        ),
    ),
    Guard(
        "a connection has so many streams",
        (Edit("chassis/run.py", "options = PUBLIC if", "options = () if"),),
        ("tests/security/test_http2_abuse.py::test_streams_that_are_reset_count_until_the_gateway_is_done_with_them",),
    ),
    Guard(
        "a caller has so many streams",
        (Edit(BUCKETS, "        if taken >= self.places:\n            return None\n", ""),),
        (f"{HERE}test_streams_beyond_the_limit_are_refused_until_one_ends",),
    ),
    Guard(
        "a flood of names takes bounded memory",
        (Edit(BUCKETS, "if len(self._young) >= self._names_max:", "if False:"),),
        ("tests/chassis/test_buckets.py::test_a_flood_of_names_takes_no_more_memory_than_two_generations",),
    ),
    Guard(
        "a flood of names resets nobody",
        (Edit(BUCKETS, "full_at = self._old.pop(name, 0.0)", "full_at = 0.0"),),
        ("tests/chassis/test_buckets.py::test_a_flood_of_names_gives_nobody_a_new_bucket_who_goes_on_calling",),
    ),
    Guard(
        "a reader that takes nothing is given up",
        (Edit("chassis/patience.py", "        self._ending = self._loop.create_task(self._end())\n", ""),),
        (
            "tests/gateway/test_gateway_watch_tickets.py"
            "::test_a_reader_that_takes_nothing_is_ended_without_being_waited_for",
        ),
    ),
    Guard(
        "a call has a longest time",
        (
            Edit(
                "gateway/deadlines.py",
                "return min(max(remaining_s - ANSWER_MARGIN_S, remaining_s / 2), max_s)",
                "return max(remaining_s - ANSWER_MARGIN_S, remaining_s / 2)",
            ),
        ),
        ("tests/gateway/test_gateway_limits.py::test_a_deadline_is_cut_to_ours",),
    ),
    Guard(
        "a buyer has so many holds",
        (
            Edit(
                "reservations/domain/holds.py",
                "if not books.has_room_for_hold(event.event_id, command.buyer_id):",
                "if False:",
            ),
        ),
        (
            "tests/reservations/test_reserve.py"
            "::test_forty_reserves_at_once_of_one_buyer_become_ten_holds_and_all_are_decided",
            "tests/reservations/test_reserve.py::test_two_processes_together_grant_no_more_holds_than_one",
        ),
    ),
    Guard(
        "holds of others' transactions are counted",
        (
            Edit(
                "reservations/handlers/reserve.py",
                "        await store.count_holds(conn, books, many)\n",
                "        pass\n",
            ),
        ),
        ("tests/reservations/test_reserve.py::test_a_hold_that_ended_leaves_room_for_another",),
    ),
    Guard(
        "a reservation takes so many payments",
        (
            Edit(
                "reservations/domain/money.py",
                'return reasons.TOO_MANY_PAYMENTS if len(reservation.credits) >= PAYMENTS_MAX else ""',
                'return ""',
            ),
        ),
        ("tests/reservations/test_opening.py::test_the_twenty_first_payment_of_a_reservation_is_refused",),
    ),
    Guard(
        "the lowest rank is refused first",
        (
            Edit(
                "chassis/admission.py",
                "*below, own = _lowest_first(wanted, traffic[: rank + 1])",
                "*below, own = [wanted] * (rank + 1)",
            ),
        ),
        ("tests/chassis/test_admission.py::test_nobody_looks_while_those_who_buy_are_refused",),
    ),
    Guard(
        "who looks waits for those who find no room",
        (Edit("chassis/admission.py", "for limit in self._above:", "for limit in ():"),),
        ("tests/chassis/test_admission.py::test_what_finds_no_room_above_it_is_refused_too",),
    ),
)
