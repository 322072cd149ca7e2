"""Lists that come in pages, followed to a limit."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Page = TypeVar("Page", bound=Any)


def pages(
    ask: Callable[[int, str], Page], items_of: Callable[[Page], Sequence[Any]], *, limit: int, page_size_max: int
) -> Iterator[Page]:
    """Page after page, with `limit` items at most in all of them.

    `ask` is called with how many items are wanted and with the token of the page before; the last page has no token for
    another, or the limit is reached.
    """
    left, token = limit, ""
    while left > 0:
        page = ask(min(left, page_size_max), token)
        yield page
        count, token = len(items_of(page)), page.next_page_token
        if not (count and token):
            return
        left -= count
