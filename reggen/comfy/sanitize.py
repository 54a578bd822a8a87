"""The door: how much of what a server says is read, and which of its texts may pass. Pure: no I/O.

Answers are measured after unpacking, so that a packed one counts as what it unpacks to. Texts that are shown or kept
are cut and cleaned by `said`; names that are compared or sent back are taken as they are, or not at all (`is_name`).
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, TypeGuard

# bytes of an answer, after unpacking
ANSWER = (
    4 << 20
)  # any answer without a limit of its own; the history entry of one prompt of ours has some kB beside its graph
NODE_CLASS = 8 << 20  # one class in /object_info: the names of 80,000 files
LISTING = (
    64 << 20
)  # /queue and the newest of /history, read item by item; each item has a workflow of up to some 200 kB
REFUSAL = 64 << 10  # the body of an answer that refuses: the rest of it is not read
FRAME = 1 << 20  # a text frame; the largest of ComfyUI's have some kB
# characters of a text
SAID = 2_000
NAME = 1_000
LINE = 200

NO_JSON = "the answer is not JSON"
_VALUES = 1_000_000  # in one answer: a list or an object of no bytes takes 64 bytes here
_CHUNK = 1 << 16
# control characters, line ends other than \n, the marks that turn the direction of writing, halves of characters
_ODD = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BROKEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Unacceptable(Exception):
    """An answer that does not pass. ``what`` says why, in words."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def said(value: object, most: int = SAID) -> str:
    """A text of a server's, to be shown: cut, and without what a terminal would obey or a file could not hold."""
    if not isinstance(value, str):
        try:
            value = str(value)
        except (ValueError, RecursionError):  # a number of thousands of digits, lists within lists
            return "something unreadable"
    cut = value if len(value) <= most else value[: most - 1] + "…"
    return _ODD.sub(" ", cut)


def is_name(value: object, most: int = NAME) -> TypeGuard[str]:
    """Whether a value can be an id or a file name of a server's."""
    return isinstance(value, str) and len(value) <= most and not _ODD.search(value)


def is_choice(value: object) -> TypeGuard[str]:
    """Whether a value can be an item of a list to choose from; names of files have odd marks now and then."""
    return isinstance(value, str) and len(value) <= NAME and not _BROKEN.search(value)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number to reckon with: neither true nor infinite, nor of thousands of digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -(2**63) <= value < 2**63 if isinstance(value, int) else math.isfinite(value)


# ---- JSON -----------------------------------------------------------------------------------------


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= 40 else None


def _real(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


# what stands for no number, Infinity and NaN among it, is None
DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_int=_whole, parse_float=_real)


def parsed(text: str) -> Any:
    """The JSON value of a text. Raises Closed when it is none, or has more values than an answer can need."""
    demand_few_values(text)
    try:
        return DECODER.decode(text.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        raise Unacceptable(NO_JSON) from None


def demand_few_values(text: str) -> None:
    """Raises Closed when the JSON of a text has more values than an answer can need."""
    if len(text) > _VALUES and text.count(",") + text.count("[") + text.count("{") > _VALUES:
        raise Unacceptable(f"the answer has more than {_VALUES:,} values")


# ---- bytes ----------------------------------------------------------------------------------------


def decoded(content: bytes) -> str:
    """The text of an answer, whatever charset it claims: UTF-8, or else Latin-1."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


class Unpacker:
    """The bytes of a body as they were before the server packed them, in pieces of 64 kB at most."""

    def __init__(self, encoding: str) -> None:
        kind = encoding.strip().lower()
        if kind not in {"", "identity", "gzip", "x-gzip", "deflate"}:
            raise Unacceptable(f"it packed its answer as {said(kind, 40)!r}, which was not asked for")
        width = zlib.MAX_WBITS if kind == "deflate" else zlib.MAX_WBITS | 16
        self._unzip = None if kind in {"", "identity"} else zlib.decompressobj(width)

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """What these bytes unpack to. Raises Closed when they are damaged."""
        if self._unzip is None:
            yield packed
            return
        while packed:
            try:
                chunk = self._unzip.decompress(packed, _CHUNK)
            except zlib.error:
                raise Unacceptable("its packed answer is damaged") from None
            packed = self._unzip.unconsumed_tail
            if chunk:
                yield chunk


def words_of(secrets: Iterable[str]) -> list[str]:
    """The secrets as they may be quoted, the longest first: whole, in words, and as JSON writes them."""
    plain = {word for value in secrets for word in (value, *value.split()) if len(word) >= 4}
    return sorted(plain | {json.dumps(word)[1:-1] for word in plain}, key=len, reverse=True)
