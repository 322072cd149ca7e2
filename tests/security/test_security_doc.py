"""docs/security.md shows the table as it is."""

import re
from pathlib import Path

from contract import access

PAGE = (Path(__file__).parents[2] / "docs/security.md").read_text()
ROLES = ("buyer", "organiser", "door", "service", "operator")


def test_the_page_shows_every_row_of_the_table() -> None:
    section = PAGE.partition("## Who may do what")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", section, re.MULTILINE)
    ]
    assert rows[0] == ["RPC", *ROLES, "passed on by"]
    shown = {name: (dict(zip(ROLES, scopes, strict=True)), peers) for name, *scopes, peers in rows[2:]}
    assert len(shown) == len(rows[2:])
    assert shown == {
        method.rpartition("/")[2]: (
            {role: row.roles[role].name.lower() if role in row.roles else "" for role in ROLES},
            ", ".join(sorted(row.peers)),
        )
        for method, row in access.TABLE.items()
        if not row.is_open
    }
