"""How often a name may call, and that the memory of names is bounded and forgets nobody who matters."""

import pytest

from chassis.buckets import Buckets, Places, Rate

TEN_A_SECOND = Rate(per_s=10, burst=3)


def test_a_burst_is_let_through_and_then_as_many_as_the_rate_says() -> None:
    buckets = Buckets(TEN_A_SECOND)
    assert [buckets.take("ann", 100.0) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("ann", 100.0) == pytest.approx(0.1)
    let_in = sum(buckets.take("ann", 100 + tick / 100) == 0 for tick in range(1, 1_001))
    assert let_in == 100


@pytest.mark.parametrize("now", [0.0, 1e5 / 3, 1e9 / 7])
def test_who_waits_as_long_as_told_is_let_in_and_nobody_sooner(now: float) -> None:
    buckets = Buckets(Rate(per_s=3, burst=7))
    for _ in range(7):
        assert buckets.take("ann", now) == 0
    wait_s = buckets.take("ann", now)
    assert buckets.take("ann", now + wait_s / 2) == pytest.approx(wait_s / 2)
    assert buckets.take("ann", now + wait_s) == 0


def test_a_refused_call_takes_nothing() -> None:
    buckets = Buckets(TEN_A_SECOND)
    for _ in range(100):
        wait_s = buckets.take("ann", 100.0)
    assert wait_s == pytest.approx(0.1)


def test_names_do_not_take_from_each_other() -> None:
    buckets = Buckets(TEN_A_SECOND)
    assert [buckets.take(name, 100.0) for name in "aaabbb"] == [0] * 6
    assert all(buckets.take(name, 100.0) for name in "ab")


def test_a_flood_of_names_takes_no_more_memory_than_two_generations() -> None:
    buckets = Buckets(TEN_A_SECOND, names_max=100)
    for number in range(10_000):
        buckets.take(f"new {number}", 100.0)
    assert len(buckets) <= 200


def test_a_flood_of_names_gives_nobody_a_new_bucket_who_goes_on_calling() -> None:
    buckets = Buckets(TEN_A_SECOND, names_max=100)
    let_in = 0
    for number in range(10_000):
        buckets.take(f"new {number}", 100.0)
        if number % 50 == 0:
            let_in += buckets.take("ann", 100.0) == 0
    assert let_in == TEN_A_SECOND.burst


def test_a_place_that_is_given_back_is_free_for_its_name() -> None:
    places = Places(2)
    leave = places.take("ann")
    assert leave
    assert places.take("ann")
    assert places.take("ann") is None
    assert places.take("bob")
    leave()
    assert places.take("ann")


def test_who_has_nothing_open_is_not_remembered() -> None:
    places = Places(2)
    for number in range(1_000):
        leave = places.take(f"new {number}")
        assert leave
        leave()
    assert len(places) == 0
