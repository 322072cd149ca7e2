"""Guards of several of everything: who is taken for dead, and who is started again."""

from typing import Final

from tests.proof.guard import Edit, Guard

BROKERS: Final = "deploy/ha/brokers.py"
PARTED: Final = "tests/deploy/test_ha_stack.py::test_the_broker_that_most_are_parted_from_is_to_be_started_again"

SEVERAL: Final = (
    Guard(
        "several: who hangs is passed over",
        (Edit("deploy/ha/balancer.py", '        f"    option httpchk {look}",\n', ""),),
        ("tests/deploy/test_ha_balancer.py::test_who_stands_behind_the_address_may_hang",),
    ),
    Guard(
        "several: a process is gone with its last thread",
        (Edit("deploy/process.py", ' or (state == "Z" and threads <= 1)', ' or state == "Z"'),),
        ("tests/deploy/test_detached_process.py::test_one_of_whose_threads_any_is_left_runs",),
    ),
    Guard(
        "several: the broker is started again that most are parted from",
        (Edit(BROKERS, "key=lambda name: (named[name], name)", "key=lambda name: name"),),
        (PARTED,),
    ),
    Guard(
        "several: a broker that hangs says nothing against the others",
        (
            Edit(
                BROKERS,
                "    except OSError:\n        return []\n    own",
                "    except KeyError:\n        return []\n    own",
            ),
        ),
        (PARTED,),
    ),
)
