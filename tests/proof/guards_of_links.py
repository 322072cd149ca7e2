"""Guards of the links: who comes in by a certificate, and who is talked to."""

from typing import Final

from tests.proof.guard import Edit, Guard

TLS: Final = "chassis/tls.py"
CHANNELS: Final = "chassis/channels.py"
SETTINGS: Final = "chassis/settings.py"
CERTIFICATES: Final = "deploy/certificates.py"
TESTS: Final = "tests/chassis/test_tls.py"
SETTINGS_TESTS: Final = "tests/chassis/test_settings.py"

LINKS: Final = (
    Guard(
        "callers within must show a certificate",
        (Edit(TLS, "fetch, self._ca is not None)", "fetch, False)"),),
        (
            f"{TESTS}::test_who_shows_no_certificate_is_refused",
            f"{TESTS}::test_a_service_is_known_by_the_name_in_its_certificate",
        ),
    ),
    Guard(
        "a service is asked for its own name",
        (Edit(CHANNELS, "options=(*own, called(peer))", "options=(*own, called('localhost'))"),),
        (f"{TESTS}::test_a_service_that_shows_another_name_than_the_one_called_is_not_talked_to",),
    ),
    Guard(
        "a server takes up its new certificate",
        (Edit(TLS, "            if pem == given:\n", "            if True:\n"),),
        (f"{TESTS}::test_a_replaced_certificate_is_the_one_that_is_shown",),
    ),
    Guard(
        "a caller takes up its new certificate",
        (Edit(CHANNELS, "        if pem != self._pem:\n", "        if False:\n"),),
        (f"{TESTS}::test_a_caller_shows_its_new_certificate_from_its_next_call_on",),
    ),
    Guard(
        "calls under way end on the certificate of before",
        (Edit(CHANNELS, "self._channel.close(RENEWAL_GRACE_S)", "self._channel.close(None)"),),
        (f"{TESTS}::test_all_certificates_are_replaced_under_load_and_no_call_fails",),
    ),
    Guard(
        "half of a new identity is not used",
        (Edit(TLS, "            context.load_cert_chain(self._cert, self._key, password=_no_password)\n", ""),),
        (f"{TESTS}::test_files_that_do_not_fit_together_are_not_used",),
    ),
    Guard(
        "links do not leave the machine in plaintext",
        (Edit(SETTINGS, "        if outside and tls is None:\n", "        if False:\n"),),
        (
            f"{SETTINGS_TESTS}::test_a_service_does_not_start_off_this_machine_without_tls",
            f"{SETTINGS_TESTS}::test_a_link_to_another_machine_needs_tls_too",
        ),
    ),
    Guard(
        "the public port does not leave the machine in plaintext unasked",
        (Edit(SETTINGS, "tls or self.public_plaintext or", "True or self.public_plaintext or"),),
        (f"{SETTINGS_TESTS}::test_the_public_port_is_private_on_the_way_or_says_that_it_is_not",),
    ),
    Guard(
        "a broker's URL does not switch verification off",
        (Edit(SETTINGS, '    if given.get("no_verify_ssl", "0") != "0":\n', "    if False:\n"),),
        (f"{SETTINGS_TESTS}::test_what_is_wrong_is_named",),
    ),
    Guard(
        "a link that is told to end does, whatever fails just then",
        (
            Edit(
                "chassis/connection.py",
                "            reason = await self._live()\n            if cancelled_from_outside():\n",
                "            reason = await self._live()\n            if False:\n",
            ),
        ),
        (
            "tests/chassis/test_connection.py::test_a_cancellation_that_an_error_takes_the_place_of_ends_it_all_the_same",
        ),
    ),
    Guard(
        "a certificate of another CA is replaced",
        (Edit(CERTIFICATES, " or not _is_by(authority, known, name)", ""),),
        ("tests/deploy/test_certificates.py::test_one_that_is_of_no_use_is_made_anew_and_no_other",),
    ),
    Guard(
        "certificates are valid for those whose clock is behind",
        (Edit(CERTIFICATES, ".not_valid_before(now - _BACKDATED)", ".not_valid_before(now)"),),
        ("tests/deploy/test_certificates.py::test_who_starts_with_a_clock_that_is_hours_behind_finds_everybody_valid",),
    ),
)
