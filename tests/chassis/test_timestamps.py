"""Our own conversions agree with the library's."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from chassis.timestamps import datetime_of, timestamp_of

TIMES = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))]))


@given(TIMES)
def test_a_time_becomes_what_the_library_makes_of_it_and_comes_back(time: datetime) -> None:
    theirs = Timestamp()
    theirs.FromDatetime(time)
    assert timestamp_of(time) == theirs
    assert datetime_of(theirs) == time == theirs.ToDatetime(UTC)


def test_what_lies_between_microseconds_is_cut() -> None:
    assert datetime_of(Timestamp(seconds=1, nanos=1_999)) == datetime(1970, 1, 1, 0, 0, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("seconds", [2**62, -(2**62), 253_402_300_800])
def test_a_time_that_is_none_is_a_wrong_value(seconds: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        datetime_of(Timestamp(seconds=seconds))
