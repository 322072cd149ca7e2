"""Guards against what nobody of good will sends: to a port, into a queue, at a terminal."""

from typing import Final

from tests.proof.guard import Edit, Guard

CONSUMERS: Final = "tests/security/test_fuzz_consumers.py::"
INJECTION: Final = "tests/security/test_injection.py::"

GARBAGE: Final = (
    Guard(
        "garbage: gRPC's own services take requests only",
        (Edit("chassis/interceptor.py", "return _well_formed(handler)", "return handler"),),
        ("tests/chassis/test_server.py::test_what_is_no_request_of_grpcs_own_services_is_refused_as_any_other",),
    ),
    Guard(
        "garbage: a page token says a position",
        (
            Edit(
                "chassis/paging.py",
                "        except ValueError:\n            raise invalid",
                "        except OSError:\n            raise invalid",
            ),
        ),
        (
            "tests/chassis/test_paging.py"
            "::test_a_position_that_the_call_cannot_read_is_refused_though_the_secret_is_known",
        ),
    ),
    Guard(
        "garbage: a payment pays for one reservation",
        (
            Edit(
                "reservations/handlers/opening.py",
                "if reservation is None or is_of_another:",
                "if reservation is None:",
            ),
        ),
        (
            "tests/reservations/test_opening.py"
            "::test_a_payment_of_one_reservation_is_unknown_to_another_and_spoils_nobodys_opening",
        ),
    ),
    Guard(
        "garbage: a reservation is one request's",
        (
            Edit(
                "reservations/handlers/reserve.py",
                "decided_under is None and command.reservation_id in claimed",
                "False",
            ),
        ),
        (
            "tests/reservations/test_reserve.py"
            "::test_a_second_request_under_the_same_reservation_id_leaves_no_trace_though_it_comes_beside_the_first",
        ),
    ),
    Guard(
        "garbage: headers count to what a column takes",
        (Edit("chassis/delivery.py", "min(max(value, 0), NUMBER_MAX)", "max(value, 0)"),),
        (f"{CONSUMERS}test_what_says_that_it_was_tried_often_enough_is_tried_once_more",),
    ),
    Guard(
        "garbage: an amount is one that a card can pay",
        (
            Edit(
                "reservations/handlers/settle.py",
                "if not 0 <= payment.amount_minor <= AMOUNT_MINOR_MAX:",
                "if False:",
            ),
        ),
        (f"{CONSUMERS}test_an_approval_of_an_amount_that_no_card_pays_is_set_aside_and_no_money_moves",),
    ),
    Guard(
        "garbage: what cannot be read of a message is left out",
        (
            Edit(
                "chassis/connection.py",
                "with suppress(Exception):\n        _unmarshal",
                "with suppress():\n        _unmarshal",
            ),
        ),
        (f"{CONSUMERS}test_names_that_are_no_text_are_set_aside_too",),
    ),
    Guard(
        "garbage: an answer goes to a name that there can be",
        (Edit("chassis/outcomes.py", " or not is_name:", ":"),),
        (f"{CONSUMERS}test_an_answer_that_cannot_be_sent_keeps_no_answer_from_others",),
    ),
    Guard(
        "garbage: operators' lists do nothing to a terminal",
        (Edit("ops/terminal.py", "return Text(printable(text), style=style)", "return Text(text, style=style)"),),
        (
            f"{INJECTION}test_no_text_of_a_message_makes_a_line_of_the_log_or_acts_at_the_terminal",
            f"{INJECTION}test_what_operators_type_is_kept_and_does_nothing_to_a_terminal",
        ),
    ),
    Guard(
        "garbage: gRPC's core writes nothing into the log",
        (Edit("chassis/__init__.py", 'os.environ.setdefault("GRPC_VERBOSITY", "NONE")', "os.environ.copy()"),),
        (f"{INJECTION}test_nothing_else_of_a_call_makes_a_line_of_the_log",),
    ),
)
