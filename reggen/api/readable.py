"""Results as people read them: text for `print`, HTML for notebooks, where all text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


class Readable:
    """A result whose ``text`` is what the command line prints."""

    __slots__ = ()

    text: str

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return pre(self.text)


def pre(text: str) -> str:
    """A text that keeps its line breaks."""
    return f"<pre>{escape(text)}</pre>"


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table with one line of headings."""
    body = "".join(_row("td", row) for row in rows)
    return f"<table><thead>{_row('th', head)}</thead><tbody>{body}</tbody></table>"


def _row(tag: str, cells: Iterable[object]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"
