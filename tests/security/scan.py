"""Known vulnerabilities in what is installed, and secrets in what is committed: `make audit`.

Ends with 1 when something is found. What cannot be asked, because this machine is offline, is told and skipped.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
BIN: Final = Path(sys.executable).parent
PIP_AUDIT_TIMEOUT_S: Final = 120
SCAN_TIMEOUT_S: Final = 300
# Generated, or digests by their nature.
NOT_SCANNED: Final = r"(^|/)(constraints\.txt|baseline\.binpb)$|^gen/|\.svg$|^docs/bench\.json$"


class Verdict(NamedTuple):
    """`problems` are to be mended; `skipped` says why nobody could look, else it is empty."""

    problems: list[str]
    skipped: str = ""


def vulnerabilities(requirements: Path) -> Verdict:
    """What is known to be wrong with the packages that a file of pins names."""
    command = [BIN / "pip-audit", "--requirement", requirements, "--no-deps", "--disable-pip"]
    command += ["--format=json", "--progress-spinner=off"]
    try:
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=PIP_AUDIT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Verdict([], f"no answer within {PIP_AUDIT_TIMEOUT_S} s")
    return judged(done.stdout, done.stderr)


def judged(report: str, complaints: str) -> Verdict:
    """What the report says; without one nobody was asked."""
    try:
        dependencies = json.loads(report)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        last = complaints.strip().splitlines()[-1:] or ["it said nothing"]
        return Verdict([], last[0][:200])
    return Verdict(
        [
            f"{package['name']} {package['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or '?'}"
            for package in dependencies
            for flaw in package.get("vulns", ())
        ]
    )


def secrets(root: Path, files: list[str]) -> Verdict:
    """What looks like a secret in these files; a line that is none says so with `pragma: allowlist secret`."""
    if not files:
        return Verdict([])
    command = [str(BIN / "detect-secrets"), "scan", "--no-verify", "--exclude-files", NOT_SCANNED]
    for noisy in ("Base64HighEntropyString", "HexHighEntropyString", "KeywordDetector"):
        # They take every digest and every test's "password" for one; what is left knows real keys and tokens by form.
        command += ["--disable-plugin", noisy]
    done = subprocess.run(
        [*command, *files], cwd=root, capture_output=True, text=True, timeout=SCAN_TIMEOUT_S, check=True
    )
    found = json.loads(done.stdout)["results"]
    return Verdict([f"{file}:{one['line_number']}: {one['type']}" for file, all_ in found.items() for one in all_])


def committed(root: Path) -> list[str]:
    """Every file that git has, or would take; none where there is no git."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=root, capture_output=True, text=True, check=False)
    return [file for file in done.stdout.splitlines() if (root / file).is_file()]


def main() -> None:
    """Says what was found, and ends with 1 if anything was."""
    found = False
    for what, verdict in (
        ("vulnerable packages", vulnerabilities(ROOT / "constraints.txt")),
        ("secrets", secrets(ROOT, committed(ROOT))),
    ):
        found |= bool(verdict.problems)
        told = f"skipped, nobody could be asked: {verdict.skipped}" if verdict.skipped else ""
        sys.stdout.write(f"{what}: {told or len(verdict.problems) or 'none'}\n")
        sys.stdout.writelines(f"  {problem}\n" for problem in verdict.problems)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
