"""Guards of work queues in shards."""

from typing import Final

from tests.proof.guard import Edit, Guard

TOPOLOGY: Final = "chassis/topology.py"
TESTS: Final = "tests/chassis/test_shards.py"

SHARDS: Final = (
    Guard(
        "a shard serves one consumer at a time",
        (Edit(TOPOLOGY, ' | {"x-single-active-consumer": True}', ""),),
        (f"{TESTS}::test_a_shard_is_served_to_one_and_another_takes_over",),
    ),
    Guard(
        "shards are hashed by the shard key",
        (Edit(TOPOLOGY, '{"hash-header": SHARD_HEADER}', '{"hash-header": "nothing"}'),),
        (f"{TESTS}::test_each_slot_goes_to_one_shard_and_each_shard_has_some",),
    ),
    Guard(
        "shards that are left are drained",
        (Edit("chassis/consumer.py", "(*queue.queues(shards), *map(queue.shard, left))", "queue.queues(shards)"),),
        (
            f"{TESTS}::test_shards_that_are_left_are_drained_and_nothing_is_said_to_them",
            f"{TESTS}::test_any_number_of_shards_follows_any_other_and_nothing_is_lost",
        ),
    ),
    Guard(
        "shards that are left are told nothing more",
        (Edit("chassis/consumer.py", "            await unbind_left_over(channel, queue, left)\n", ""),),
        (f"{TESTS}::test_shards_that_are_left_are_drained_and_nothing_is_said_to_them",),
    ),
    Guard(
        "shards of another number are unbound",
        (Edit(TOPOLOGY, "    await _unbind(channel, wanted.unbound)\n", ""),),
        (f"{TESTS}::test_what_the_release_before_shards_has_bound_is_bound_no_more",),
    ),
    Guard(
        "shards are bound again behind what another owner unbound",
        (
            Edit(
                TOPOLOGY,
                "    await _bind(channel, [one for one in wanted.bindings if one.source == exchange])\n",
                "",
            ),
        ),
        (f"{TESTS}::test_owners_that_are_told_different_numbers_leave_no_key_without_a_queue",),
    ),
    Guard(
        "shards are shared out",
        (Edit("chassis/turns.py", "        if len(busy) <= SHARE_MIN:\n", "        if True:\n"),),
        (f"{TESTS}::test_shards_are_shared_out_though_all_went_to_whoever_came_first",),
    ),
    Guard(
        "a parked message keeps no shard's name",
        (Edit("chassis/parking.py", "work_queue_of(delivery.died_in)", "delivery.died_in"),),
        ("tests/chassis/test_consumer.py::test_a_message_that_is_never_acked_lands_in_the_table",),
    ),
    Guard(
        "who has drained leaves its shards to others",
        (Edit("chassis/intake.py", "        self._link.leave()\n", ""),),
        ("tests/chassis/test_consumer.py::test_who_has_drained_leaves_what_came_and_was_not_taken_to_others",),
    ),
)
