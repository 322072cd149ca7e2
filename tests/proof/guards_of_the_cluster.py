"""Guards of the manifests for Kubernetes, and of what the product does for them."""

from typing import Final

from tests.proof.guard import Edit, Guard

PROCESS: Final = "deploy/kubernetes/components/every-process/process.yaml"
NETWORK: Final = "deploy/kubernetes/base/network.yaml"
SCHEMAS: Final = "tests/kubernetes/schemas.py"
PROBES_TESTS: Final = "tests/chassis/test_probes.py"
PROCESSES_TESTS: Final = "tests/kubernetes/test_processes.py"
NETWORK_TESTS: Final = "tests/kubernetes/test_network.py"
UNKNOWN_FIELD: Final = "tests/kubernetes/test_check.py::test_a_field_that_nobody_knows_is_found"

CLUSTER: Final = (
    Guard(
        "cluster: a process that waits for a database is not started anew",
        (Edit("chassis/probes.py", "        if request.service == LIVE:\n", '        if request.service == "":\n'),),
        (
            f"{PROBES_TESTS}::test_who_waits_for_a_database_lives_and_does_not_serve",
            f"{PROBES_TESTS}::test_a_service_that_finds_neither_database_nor_broker_lives",
        ),
    ),
    Guard(
        "cluster: a service waits for the migrations of its code",
        (Edit("deploy/await_schema.py", "if name not in applied]", "if False]"),),
        ("tests/deploy/test_await_schema.py::test_it_waits_for_one_migration_that_is_missing_and_names_it",),
    ),
    Guard(
        "cluster: a field that an operator does not know is refused",
        (Edit(SCHEMAS, '        closed["additionalProperties"] = False\n', "        pass\n"),),
        (UNKNOWN_FIELD, "tests/kubernetes/test_check.py::test_what_a_definition_leaves_open_stays_open"),
    ),
    Guard(
        "cluster: a field that Kubernetes does not know is refused",
        (Edit(SCHEMAS, "version, strict=True)", "version, strict=False)"),),
        (UNKNOWN_FIELD, "tests/kubernetes/test_check.py::test_a_misspelt_field_of_metadata_is_found"),
    ),
    Guard(
        "cluster: no container writes to its own files",
        (Edit(PROCESS, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"),),
        (f"{PROCESSES_TESTS}::test_no_container_may_more_than_it_must",),
    ),
    Guard(
        "cluster: SIGTERM comes after the last call",
        (Edit(PROCESS, "preStop: {sleep: {seconds: 10}}", "preStop: {sleep: {seconds: 1}}"),),
        (f"{PROCESSES_TESTS}::test_a_process_is_ended_after_nobody_sends_it_anything_and_has_the_time_that_it_takes",),
    ),
    Guard(
        "cluster: what nobody allowed is refused",
        (
            Edit(
                NETWORK,
                "  podSelector: {}\n  policyTypes: [Ingress, Egress]",
                "  podSelector: {}\n  policyTypes: [Egress]",
            ),
        ),
        (f"{NETWORK_TESTS}::test_all_is_refused_that_is_not_allowed",),
    ),
    Guard(
        "cluster: the front calls the gateway and nobody else",
        (
            Edit(
                NETWORK,
                "to: [{podSelector: {matchLabels: {app.kubernetes.io/name: gateway}}}]",
                "to: [{podSelector: {}}]",
            ),
        ),
        (f"{NETWORK_TESTS}::test_what_is_let_out_are_the_arrows",),
    ),
    Guard(
        "cluster: a page of the broker's is known by its CA",
        (
            Edit(
                "deploy/broker.py",
                "urllib.request.ProxyHandler({}))",
                'urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=__import__("ssl").'
                "_create_unverified_context()))",
            ),
        ),
        ("tests/deploy/test_broker_page.py::test_a_page_of_another_ca_is_told_nothing",),
    ),
)
