"""What texts for people may not hold, whoever takes them in."""

import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Characters that a terminal takes for commands; NUL among them, which PostgreSQL does not store."""
