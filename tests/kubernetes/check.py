"""Puts the manifests together and holds each object to its schema: `make manifests`.

Ends with 1 when something is wrong. What cannot be looked at, because this machine is offline, is told and skipped.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.kubernetes.render import (
    BASE,
    HIGHLY_AVAILABLE,
    Object,
    OfflineError,
    UnsoundError,
    build,
    build_trial,
    kustomize,
    name_of,
)
from tests.kubernetes.schemas import CACHE, problems

PARTS: Final = {"base": BASE, "highly-available": HIGHLY_AVAILABLE}
TRIAL: Final = "highly-available with the simulated card processor"


class Verdict(NamedTuple):
    """`problems` are to be mended; `skipped` names what nobody could look at, and why."""

    problems: list[str]
    skipped: list[str]


def judged(objects: Sequence[Object], cache: Path = CACHE) -> Verdict:
    """What is wrong with any of them."""
    verdict = Verdict([], [])
    for found in objects:
        try:
            verdict.problems.extend(f"{name_of(found)}: {problem}" for problem in problems(found, cache))
        except UnsoundError as error:
            verdict.problems.append(f"{name_of(found)}: {error}")
        except OfflineError as error:
            verdict.skipped.append(f"{name_of(found)}: {error}")
    return verdict


def told(name: str, count: int, verdict: Verdict) -> list[str]:
    """For people."""
    state = f"{len(verdict.problems)} problems" if verdict.problems else "no problem"
    lines = [f"{name}: {count} objects, {state}, {len(verdict.skipped)} skipped"]
    lines += [f"  {problem}" for problem in verdict.problems]
    return lines + [f"  skipped, offline: {skipped}" for skipped in verdict.skipped]


def rendered(program: Path) -> Mapping[str, Sequence[Object]]:
    """The objects of each part by its name. Raises UnsoundError."""
    return {name: build(folder, program) for name, folder in PARTS.items()} | {TRIAL: build_trial(program)}


def main() -> None:
    """Says what was found, and ends with 1 if anything was."""
    try:
        parts = rendered(kustomize())
    except OfflineError as error:
        sys.stdout.write(f"manifests: SKIPPED, not one was looked at: {error}\n")
        return
    except UnsoundError as error:
        sys.exit(f"manifests: {error}")
    found = False
    for name, objects in parts.items():
        verdict = judged(objects)
        found |= bool(verdict.problems)
        sys.stdout.writelines(f"{line}\n" for line in told(name, len(objects), verdict))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
