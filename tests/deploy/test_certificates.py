"""Certificates of a local stack: made once, kept while they are good, replaced in time."""

import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chassis.tls import Tls
from deploy import certificates
from deploy.certificates import AUTHORITY, LIFETIME, RENEW_BELOW, issue, make_authority, prepare
from deploy.services import IDENTITIES, certificate_files

NAME = "payments"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def age(folder: Path, name: str, left: timedelta) -> None:
    """Leaves a certificate with so much of its time."""
    authority = certificates._read(*certificate_files(folder, AUTHORITY)[:2])
    assert authority
    issue(authority, name, datetime.now(UTC) - LIFETIME + left).write(*certificate_files(folder, name)[:2])


def test_everybody_gets_an_identity_that_can_be_used_and_no_key_can_be_read_by_others(tmp_path: Path) -> None:
    prepare(tmp_path)
    for name in IDENTITIES:
        Tls(*certificate_files(tmp_path, name))
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) == 2 + 3 * len(IDENTITIES)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_who_starts_with_a_clock_that_is_hours_behind_finds_everybody_valid(tmp_path: Path) -> None:
    prepare(tmp_path)
    early = datetime.now(UTC) - timedelta(hours=2)
    for name in (AUTHORITY, *IDENTITIES):
        made = certificates._read(*certificate_files(tmp_path, name)[:2])
        assert made
        assert made.cert.not_valid_before_utc < early, name


def test_what_is_good_is_left_alone(tmp_path: Path) -> None:
    prepare(tmp_path)
    age(tmp_path, NAME, LIFETIME * RENEW_BELOW + timedelta(days=1))
    before = contents(tmp_path)
    prepare(tmp_path)
    assert contents(tmp_path) == before


def runs_out_soon(folder: Path) -> None:
    age(folder, NAME, LIFETIME * RENEW_BELOW - timedelta(hours=1))


def has_lost_its_key(folder: Path) -> None:
    certificate_files(folder, NAME)[1].unlink()


def has_the_key_of_another(folder: Path) -> None:
    certificate_files(folder, NAME)[1].write_bytes(certificate_files(folder, "gateway")[1].read_bytes())


def is_half_written(folder: Path) -> None:
    file = certificate_files(folder, NAME)[0]
    file.write_bytes(file.read_bytes()[:200])


def is_of_another_ca(folder: Path) -> None:
    issue(make_authority(datetime.now(UTC)), NAME, datetime.now(UTC)).write(*certificate_files(folder, NAME)[:2])


def says_another_name(folder: Path) -> None:
    for mine, other in zip(certificate_files(folder, NAME), certificate_files(folder, "gateway"), strict=True):
        mine.write_bytes(other.read_bytes())


@pytest.mark.parametrize(
    "spoil",
    [runs_out_soon, has_lost_its_key, has_the_key_of_another, is_half_written, is_of_another_ca, says_another_name],
)
def test_one_that_is_of_no_use_is_made_anew_and_no_other(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    prepare(tmp_path)
    spoil(tmp_path)
    before = contents(tmp_path)
    prepare(tmp_path)
    after = contents(tmp_path)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {f"{NAME}/cert.pem", f"{NAME}/key.pem"}
    prepare(tmp_path)
    assert contents(tmp_path) == after


def test_with_a_new_ca_everybody_gets_a_new_identity(tmp_path: Path) -> None:
    prepare(tmp_path)
    certificate_files(tmp_path, AUTHORITY)[1].unlink()
    before = contents(tmp_path)
    prepare(tmp_path)
    after = contents(tmp_path)
    assert not [name for name in before if after[name] == before[name]]
    assert len({after[f"{name}/ca.pem"] for name in IDENTITIES}) == 1
