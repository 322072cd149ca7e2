"""The audit finds what it is there for, and an offline machine is told from a clean one."""

import json
from pathlib import Path

from tests.security.scan import judged, secrets


def test_a_secret_in_a_file_is_found(tmp_path: Path) -> None:
    key = "-----BEGIN RSA " + "PRIVATE KEY-----\n"
    (tmp_path / "key.pem").write_text(key)
    (tmp_path / "url.txt").write_text("amqp://somebody:" + "something@broker/\n")
    (tmp_path / "clean.txt").write_text("nothing\n")
    found = secrets(tmp_path, ["key.pem", "url.txt", "clean.txt"]).problems
    assert {problem.split(":")[0] for problem in found} == {"key.pem", "url.txt"}


def test_a_vulnerable_package_is_named_with_what_mends_it() -> None:
    flaw = {"id": "PYSEC-1", "fix_versions": ["1.1"]}
    report = {"dependencies": [{"name": "a", "version": "1.0", "vulns": [flaw]}, {"name": "b", "version": "2"}]}
    assert judged(json.dumps(report), "Found 1 known vulnerability").problems == ["a 1.0: PYSEC-1, mended in 1.1"]


def test_no_report_is_no_clean_report() -> None:
    verdict = judged("", "Traceback\nConnectionError: no route to host")
    assert (verdict.problems, verdict.skipped) == ([], "ConnectionError: no route to host")
