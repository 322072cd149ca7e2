"""Who may talk to whom: the arrows of the design, let out at one end and in at the other, and no others."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from contract import access
from deploy.services import FRONTEND, OPERATOR, PROCESSES
from tests.kubernetes.objects import of_kind
from tests.kubernetes.render import Object

DATABASE: Final = "database"
BROKER: Final = "rabbitmq"
MIGRATE: Final = "migrate"
ANYBODY: Final = "*"
EVERY_POD: Final = "every pod"
OURS: Final = "every process"
NAMES: Final = "kube-system/kube-dns"
MONITORING: Final = "monitoring/"
DATABASE_PORT: Final = 5432
BROKER_PORT: Final = 5671
MANAGEMENT_PORT: Final = 15671
TRACES_PORT: Final = 4317


class Arrow(NamedTuple):
    """From where, to where, at which port."""

    caller: str
    callee: str
    port: int | str


def arrows() -> set[Arrow]:
    """Those between processes and to their servers, by the table of services, of peers, and what `migrate` does."""
    found = {
        Arrow(MIGRATE, DATABASE, DATABASE_PORT),
        Arrow(MIGRATE, BROKER, MANAGEMENT_PORT),
        Arrow(OPERATOR, DATABASE, DATABASE_PORT),
        Arrow(OPERATOR, BROKER, BROKER_PORT),
    }
    ports = {process.name: process.port for process in PROCESSES}
    for process in PROCESSES:
        for fact in process.settings.values():
            if fact.endswith("_DATABASE_URL"):
                found.add(Arrow(process.name, DATABASE, DATABASE_PORT))
            elif fact.endswith("_AMQP_URL"):
                found.add(Arrow(process.name, BROKER, BROKER_PORT))
            elif callee := next((one.name for one in PROCESSES if one.address == fact), None):
                found.add(Arrow(process.name, callee, ports[callee]))
    for method, peers in access.PEERS_BY_METHOD.items():
        # /ticketrush.provider.v1.PaymentProviderService/Charge; a public service is owned by several processes.
        if (owner := method.split(".")[1]) in ports:
            found |= {Arrow(peer, owner, ports[owner]) for peer in peers}
    return found


def names_of(selector: dict[str, Any]) -> str:
    labels = selector.get("matchLabels", {})
    if not labels:
        return EVERY_POD
    [(label, value)] = labels.items()
    assert label in {"app.kubernetes.io/name", "app.kubernetes.io/part-of", "cnpg.io/cluster", "k8s-app"}
    return OURS if label == "app.kubernetes.io/part-of" else str(value)


def peers_of(rule: dict[str, Any], side: str) -> Iterator[str]:
    if side not in rule:
        yield ANYBODY
    for peer in rule.get(side, ()):
        assert "ipBlock" not in peer
        place = peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name", "")
        pod = names_of(peer["podSelector"]) if "podSelector" in peer else ""
        yield f"{place}/{pod}" if place else pod


def port_of(told: dict[str, Any]) -> int | str:
    """Its number or name; of a range, both ends."""
    assert told.keys() <= {"protocol", "port", "endPort"}
    return f"{told['port']}-{told['endPort']}" if "endPort" in told else told["port"]


def allowed(objects: Sequence[Object]) -> tuple[set[Arrow], set[Arrow]]:
    """What is let out, and what is let in."""
    out, into = set(), set()
    for policy in of_kind(objects, "NetworkPolicy").values():
        spec = policy["spec"]
        subject = names_of(spec["podSelector"])
        for side, rules in (("to", spec.get("egress", ())), ("from", spec.get("ingress", ()))):
            for rule in rules:
                # A rule without ports would open all of them.
                for port in map(port_of, rule["ports"]):
                    for peer in peers_of(rule, side):
                        if side == "to":
                            out.add(Arrow(subject, peer, port))
                        else:
                            into.add(Arrow(peer, subject, port))
    return out, into


def servers_own() -> set[Arrow]:
    """Between the instances of a server."""
    return {Arrow(BROKER, BROKER, port) for port in (4369, 25672, "35672-35682")} | {
        Arrow(DATABASE, DATABASE, port) for port in (DATABASE_PORT, 8000)
    }


def test_all_is_refused_that_is_not_allowed(base: Sequence[Object]) -> None:
    refusing = of_kind(base, "NetworkPolicy")["default-deny"]["spec"]
    assert refusing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_what_is_let_out_are_the_arrows(base: Sequence[Object]) -> None:
    out, _ = allowed(base)
    beside = {Arrow(EVERY_POD, NAMES, 53), Arrow(DATABASE, ANYBODY, 443), Arrow(DATABASE, ANYBODY, 6443)}
    traced = {Arrow(OURS, MONITORING, TRACES_PORT)}
    # Where an adapter of a card processor goes is not known here.
    assert out == arrows() | servers_own() | beside | traced


def test_what_is_let_in_are_the_arrows_buyers_and_those_who_measure(base: Sequence[Object]) -> None:
    _, into = allowed(base)
    public = {Arrow(ANYBODY, process.name, process.port) for process in PROCESSES if process.is_public}
    measured = {Arrow(MONITORING, OURS, "metrics"), Arrow(MONITORING, BROKER, 15691), Arrow(MONITORING, DATABASE, 9187)}
    # To a port that everybody may call, the front needs no arrow of its own.
    to_public = {arrow for arrow in arrows() if arrow.caller == FRONTEND.name}
    orders = {Arrow("cnpg-system/", DATABASE, 8000)}
    assert into == arrows() - to_public | servers_own() | public | measured | orders


def test_the_overlay_and_the_trial_open_no_more_than_the_queues_to_keda(
    base: Sequence[Object], highly_available: Sequence[Object], trial: Sequence[Object]
) -> None:
    out, into = allowed(base)
    for objects in (highly_available, trial):
        assert allowed(objects) == (out, into | {Arrow("keda/", BROKER, BROKER_PORT)})


def test_every_policy_says_of_which_direction_it_is(trial: Sequence[Object]) -> None:
    """One that says less than its rules would refuse nothing in that direction; one that says more, everything."""
    for name, policy in of_kind(trial, "NetworkPolicy").items():
        if name != "default-deny":
            spec = policy["spec"]
            assert {kind.lower() for kind in spec["policyTypes"]} == spec.keys() & {"ingress", "egress"}, name
