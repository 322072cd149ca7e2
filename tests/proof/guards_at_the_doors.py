"""The guards that keep out who does not belong: at the gateway's door, and between the services."""

from typing import Final

from tests.proof.guard import Edit, Guard

TOKENS: Final = "chassis/tokens.py"
KEYS: Final = "chassis/keys.py"
FORGED: Final = "tests/security/test_tokens.py::test_a_token_is_refused_that_is"
REFUSED: Final = "tests/security/test_access_matrix.py::test_who_may_not_is_refused_and_changes_nothing"
MATRIX: Final = "tests/security/test_access_matrix.py"

DOORS: Final = (
    Guard(
        "a token is for us",
        (
            Edit(
                TOKENS,
                "            audience=self._issuer.audience,\n",
                '            audience=["elsewhere", "ticketrush"],\n',
            ),
        ),
        (FORGED,),
    ),
    Guard(
        "a clock that is behind shuts nobody out",
        (Edit(TOKENS, ', "verify_iat": False', ""),),
        ("tests/security/test_tokens.py::test_who_has_just_signed_in_is_believed_by_a_gateway_whose_clock_is_behind",),
    ),
    Guard(
        "a token has all that it needs",
        (Edit(TOKENS, '"require": list(REQUIRED_CLAIMS), ', ""),),
        (FORGED,),
    ),
    Guard(
        "what is too long is not read",
        (Edit(TOKENS, "if len(token) > TOKEN_LENGTH_MAX:", "if False:"),),
        ("tests/security/test_tokens.py::test_what_is_too_long_is_not_even_read",),
    ),
    Guard(
        "a known token expires",
        (Edit(TOKENS, "if time.time() >= known.valid_until_s:", "if False:"),),
        ("tests/security/test_tokens.py::test_a_token_that_was_known_is_refused_once_it_expires",),
    ),
    Guard(
        "the memory of tokens is bounded",
        (Edit(TOKENS, "if len(self._remembered) > REMEMBERED_MAX:", "if False:"),),
        ("tests/security/test_tokens.py::test_the_memory_of_tokens_is_bounded_and_keeps_those_in_use",),
    ),
    Guard(
        "who came by a key that is gone is out",
        (Edit(TOKENS, "        self._remembered.clear()\n", ""),),
        (
            "tests/security/test_keys.py::test_a_file_that_changed_is_read_again_and_who_came_by_the_old_key_is_out",
            "tests/security/test_keys.py::test_a_url_is_asked_again_in_time",
        ),
    ),
    Guard(
        "unknown keys are looked for now and then",
        (Edit(KEYS, " and time.monotonic() - self._looked >= LOOK_AGAIN_INTERVAL_S", ""),),
        ("tests/security/test_keys.py::test_a_key_that_is_not_known_is_looked_for_at_its_url_but_not_for_everybody",),
    ),
    Guard(
        "keys are fetched only where nobody else can answer",
        (Edit(KEYS, 'if parts.scheme == "http" and not is_loopback(parts.hostname):', "if False:"),),
        ("tests/security/test_keys.py::test_keys_are_not_fetched_where_others_could_answer",),
    ),
    Guard(
        "keys come from where they were said to be",
        (Edit(KEYS, "urllib.request.build_opener(_NoRedirect)", "urllib.request.build_opener()"),),
        ("tests/security/test_keys.py::test_keys_come_from_where_they_were_said_to_be",),
    ),
    Guard(
        "an RPC needs a row",
        (
            Edit(
                "chassis/guard.py",
                '        raise _not_allowed("nobody may call this")\n',
                "        return ANYBODY\n",
            ),
        ),
        ("tests/security/test_peers.py::test_an_rpc_without_a_row_is_refused_inside_and_at_the_door",),
    ),
    Guard(
        "a role is asked for",
        (Edit("chassis/guard.py", "if self._roles.isdisjoint(caller.roles):", "if False:"),),
        (REFUSED,),
    ),
    Guard(
        "a peer is asked for",
        (Edit("chassis/observer.py", "                self._rule.check_peer(context)\n", "                pass\n"),),
        ("tests/security/test_peers.py::test_a_peer_calls_what_it_may_and_nothing_else",),
    ),
    Guard(
        "who says nothing inside is nobody",
        (
            Edit(
                "chassis/guard.py",
                "return told_by_door(metadata) or NOBODY",
                "return told_by_door(metadata) or ANYBODY",
            ),
        ),
        ("tests/security/test_peers.py::test_the_gateway_says_for_whom_it_asks_and_who_says_nothing_is_nobody",),
    ),
    Guard(
        "a stream ends with its token",
        (Edit("chassis/interceptor.py", "                    _refuse_after(caller.valid_until_s)\n", ""),),
        (f"{MATRIX}::test_a_stream_tells_nothing_after_its_token_has_expired",),
    ),
    Guard(
        "a buyer buys for himself",
        (Edit("gateway/servicer.py", "if not access.may_for_buyer(rpc, calling.get(), buyer_id):", "if False:"),),
        (REFUSED,),
    ),
    Guard(
        "what is not decided is its buyer's",
        (
            Edit(
                "gateway/reads.py",
                "return access.may_for_buyer(rpc, calling.get(), accepted.buyer_id)",
                "return bool(rpc and accepted)",
            ),
        ),
        (f"{MATRIX}::test_what_is_accepted_and_not_decided_is_its_buyers_alone",),
    ),
    Guard(
        "buyers do not hear of reservations of others",
        (
            Edit(
                "gateway/servicer.py",
                '        payment.decline_reason, payment.currency = reasons.UNKNOWN_RESERVATION, ""\n',
                "        pass\n",
            ),
        ),
        (f"{MATRIX}::test_a_stolen_token_reaches_only_what_is_its_owners",),
    ),
    Guard(
        "a reservation is its buyer's",
        (
            Edit(
                "reservations/reads_servicer.py",
                "is_shown = found is not None and await _may_see(conn, calling.get(), found[0])",
                "is_shown = found is not None",
            ),
        ),
        (REFUSED,),
    ),
    Guard(
        "a list of reservations is one's own",
        (
            Edit(
                "reservations/reads_servicer.py",
                "            await _refuse_unless_own_list(conn, calling.get(), request.buyer_id, event_id)\n",
                "",
            ),
        ),
        (f"{MATRIX}::test_a_buyer_lists_his_own_and_an_organiser_those_of_his_events", REFUSED),
    ),
    Guard(
        "a payment is its buyer's",
        (
            Edit(
                "payments/servicer.py",
                'if not found or not access.may_for_buyer("GetPayment", calling.get(), found[0].buyer_id):',
                "if not found:",
            ),
        ),
        (REFUSED,),
    ),
    Guard(
        "the payments of a reservation are its buyer's",
        (Edit("payments/servicer.py", '"" if access.may_all("ListPayments", caller) else caller.subject', '""'),),
        (REFUSED,),
    ),
    Guard(
        "an event is its organiser's",
        (
            Edit(
                "reservations/catalog.py",
                "if organiser_id is None or not access.may_for_organiser(claim.rpc, claim.caller, organiser_id):",
                "if organiser_id is None:",
            ),
        ),
        (REFUSED, f"{MATRIX}::test_a_retry_of_somebody_elses_request_is_told_nothing"),
    ),
    Guard(
        "a request_id creates for one organiser",
        (
            Edit(
                "reservations/catalog.py",
                "if not access.may_for_organiser(claim.rpc, claim.caller, event.organiser_id):",
                "if False:",
            ),
        ),
        (f"{MATRIX}::test_a_request_id_of_somebody_else_creates_nothing_for_me",),
    ),
    Guard(
        "a sale is taken back by its organiser",
        (
            Edit(
                "reservations/handlers/refund.py",
                'if not access.may_for_organiser(claim.rpc, claim.caller, organiser_id or ""):',
                "if organiser_id is None:",
            ),
        ),
        (REFUSED,),
    ),
    Guard(
        "off loopback callers are told apart",
        (
            Edit(
                "gateway/__main__.py",
                "if not self.auth_jwks and not settings.is_for_this_machine(self.listen_address):",
                "if False:",
            ),
        ),
        ("tests/gateway/test_gateway_settings.py::test_off_loopback_it_does_not_start_without_an_issuer",),
    ),
    Guard(
        "the local stack's token is shown to its own gateway",
        (Edit("cli/addresses.py", ' if lines.get("GATEWAY_ADDRESS") == gateway else ""', ""),),
        ("tests/cli/test_cli_token.py::test_the_stacks_token_is_shown_to_its_own_gateway_alone",),
    ),
    Guard(
        "a load is for this machine",
        (Edit("cli/load.py", 'if not (yes or is_loopback(address.rpartition(":")[0])):', "if False:"),),
        ("tests/cli/test_cli_load.py::test_another_machine_only_if_it_is_meant",),
    ),
    Guard(
        "what others named is not evaluated by a shell",
        (Edit("cli/completion.py", '_ACTS_ON_SHELLS.sub("_", one.name)', "one.name"),),
        ("tests/cli/test_cli_completion.py::test_a_name_that_a_shell_would_act_upon_is_made_harmless",),
    ),
)
