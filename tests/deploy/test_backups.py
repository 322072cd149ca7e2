"""The private PostgreSQL is restored to a point in time; what cannot be restored leaves all as it was."""

import shlex
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from deploy import postgres
from deploy.errors import StackError
from deploy.migrate import NUMBERS_SKIPPED
from deploy.postgres import Postgres
from deploy.process import Process, wait_until
from deploy.stack import Stack

ARCHIVED_WITHIN_S = 60


@pytest.fixture(scope="module")
def kept() -> Iterator[Stack]:
    """A database of which back-ups are kept, in a folder whose name is as awkward as a path may be."""
    folder = Path(tempfile.mkdtemp(prefix="ticketrush-kept-", dir=postgres.ELSEWHERE))
    # The server's account has to get through.
    folder.chmod(0o711)
    stack = Stack(folder / "run", backup_dir=folder / "back 100%s up")
    try:
        stack.up(("postgres",))
        stack.migrate()
        with psycopg.connect(stack.env["DATABASE_URL"]) as conn:
            conn.execute("CREATE TABLE told (word text)")
        yield stack
    finally:
        stack.clean()
        shutil.rmtree(folder)


def tell(stack: Stack, word: str) -> datetime:
    """Writes the word; returns a time at which it was there."""
    with psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as conn:
        conn.execute("INSERT INTO told VALUES (%s)", (word,))
        [(now,)] = conn.execute("SELECT clock_timestamp()").fetchall()
    assert isinstance(now, datetime)
    return now


def told(stack: Stack) -> list[str]:
    with psycopg.connect(stack.env["DATABASE_URL"]) as conn:
        return [word for (word,) in conn.execute("SELECT word FROM told").fetchall()]


def hand_over(stack: Stack) -> None:
    """Returns when all that is written by now is kept."""
    with psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as conn:
        [(segment,)] = conn.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchall()

        def is_kept() -> bool:
            [(last,)] = conn.execute("SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver").fetchall()
            return bool(last >= segment)

        assert wait_until(is_kept, ARCHIVED_WITHIN_S), "the server does not hand over what it writes"


def note_an_action(stack: Stack) -> int:
    """The number that a row of the audit gets now."""
    with psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as conn:
        [(number,)] = conn.execute(
            """INSERT INTO payments.audit_entry (operator, action, subject, reason, detail)
               VALUES ('x', 'x', 'x', 'x', '{}') RETURNING audit_id"""
        ).fetchall()
    return int(number)


def test_the_database_is_what_it_was_at_that_instant_and_no_number_is_given_out_twice(kept: Stack) -> None:
    tell(kept, "copied")
    kept.back_up()
    target = tell(kept, "kept")
    tell(kept, "forgotten")
    lost_number = note_an_action(kept)
    hand_over(kept)
    kept.restore(target)
    assert told(kept) == ["copied", "kept"]
    assert note_an_action(kept) > lost_number
    assert lost_number < NUMBERS_SKIPPED, "or it proves nothing"
    assert list(kept.run_dir.glob("postgres/data.before-*")), "what it had is not thrown away"

    # From then on it is kept again, and can be restored again.
    later = tell(kept, "later")
    tell(kept, "forgotten, too")
    hand_over(kept)
    Stack(kept.run_dir).restore(later)
    assert told(kept) == ["copied", "kept", "later"]


def test_who_was_restored_is_started_anew_or_it_would_hand_over_nothing_for_minutes(kept: Stack) -> None:
    with psycopg.connect(kept.env["DATABASE_URL"]) as conn:
        assert conn.execute("SHOW restore_command").fetchone() == ("",)
        assert conn.execute("SHOW archive_timeout").fetchone() == ("1min",)


@pytest.mark.parametrize(
    ("away", "problem"), [(timedelta(days=-1), "no whole copy"), (timedelta(days=1), "yet to come")]
)
def test_what_can_be_seen_to_be_impossible_stops_nothing(kept: Stack, away: timedelta, problem: str) -> None:
    pid = kept.pid("postgres")
    assert pid
    with pytest.raises(StackError, match=problem):
        kept.restore(datetime.now(UTC) + away)
    assert kept.pid("postgres") == pid


def test_a_time_after_all_that_is_kept_leaves_all_as_it_was_and_the_last_can_be_had(kept: Stack) -> None:
    tell(kept, "last")
    before = told(kept)
    hand_over(kept)
    with pytest.raises(StackError, match="restore as late as can be with --latest"):
        kept.restore(datetime.now(UTC))
    kept.up(("postgres",))
    assert told(kept) == before
    hand_over(kept)
    kept.restore(None)
    assert told(kept) == before


def test_new_data_are_not_made_beside_back_ups_of_others(kept: Stack) -> None:
    """They would never be handed over: their names are taken."""
    folder = kept.run_dir.parent
    other = Stack(folder / "other", backup_dir=folder / "back 100%s up")
    try:
        with pytest.raises(StackError, match="restore --latest"):
            other.up(("postgres",))
    finally:
        other.clean()


def test_back_ups_do_not_end_because_somebody_forgets_to_ask_for_them(kept: Stack) -> None:
    kept.down(("postgres",))
    forgetful = Stack(kept.run_dir)
    forgetful.up(("postgres",))
    with psycopg.connect(forgetful.env["DATABASE_URL"]) as conn:
        assert conn.execute("SHOW archive_mode").fetchone() == ("on",)
        [(command,)] = conn.execute("SHOW archive_command").fetchall()
    assert shlex.split(command)[0] == "cmp"


def test_without_back_ups_nothing_can_be_restored(tmp_path: Path) -> None:
    server = Postgres(Process("postgres", tmp_path), tmp_path, {"postgres": 1}, "x")
    with pytest.raises(StackError, match="TICKETRUSH_BACKUP_DIR"):
        server.back_up()
    with pytest.raises(StackError, match="TICKETRUSH_BACKUP_DIR"):
        server.restore(datetime.now(UTC))
