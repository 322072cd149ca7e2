"""Text that others wrote, safe to show at a terminal."""

import unicodedata
from typing import Final

# Control and format characters, line and paragraph separators: they move the cursor, colour, reorder, hide.
_ACTS: Final = ("Cc", "Cf", "Zl", "Zp")
_JOINERS: Final = "\u200c\u200d"
"""Format characters too, but parts of words and of emoji."""


def printable(text: str) -> str:
    """The text on one line, with what would act upon a terminal written as Python escapes it: ESC is `\\x1b`."""
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _ACTS:
        return character
    return character.encode("unicode_escape").decode()
