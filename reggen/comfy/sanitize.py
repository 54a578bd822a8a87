"""Limits on what is read of a server's answers, and the cleaning of their texts. Pure: no I/O.

Sizes are measured after unpacking, so that a packed answer counts as what it unpacks to. Texts that are shown or kept
are cut and cleaned by `cleaned`; names that are compared or sent back are taken unchanged, or not at all (`is_name`).
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterator
from typing import Any, TypeGuard

# bytes of an answer, after unpacking
# any answer without a limit of its own; the history entry of one prompt has some kB beside its graph
LARGEST_ANSWER = 4 << 20
LARGEST_NODE_CLASS = 8 << 20  # one class in /object_info: the names of 80,000 files
# /queue and the newest of /history, read item by item; each item has a workflow of up to some 200 kB
LARGEST_LISTING = 64 << 20
LARGEST_ERROR_BODY = 64 << 10  # of an answer with an error status; the rest is not read
LARGEST_FRAME = 1 << 20  # a text frame; ComfyUI's largest have some kB
# characters of a text
TEXT = 2_000
NAME = 1_000
LINE = 200

NOT_JSON = "the answer is not JSON"
_VALUES = 1_000_000  # in one answer: an empty list or object takes 64 bytes in Python
_CHUNK = 1 << 16
_LONGEST_NUMBER = 40  # digits
# control characters, line ends other than \n, marks that change the direction of writing, lone surrogates
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BROKEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Unacceptable(Exception):
    """An answer that is not read any further. ``what`` is the reason, as part of a sentence."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def cleaned(value: object, most: int = TEXT) -> str:
    """A server's text, to be shown: cut to ``most`` characters, without what a terminal obeys or a file cannot hold."""
    if not isinstance(value, str):
        try:
            value = str(value)
        except (ValueError, RecursionError):  # a number of thousands of digits, lists within lists
            return "something unreadable"
    cut = value if len(value) <= most else value[: most - 1] + "…"
    return _UNSAFE.sub(" ", cut)


def is_name(value: object, most: int = NAME) -> TypeGuard[str]:
    """Check that a value can be an id or a file name."""
    return isinstance(value, str) and len(value) <= most and not _UNSAFE.search(value)


def is_choice(value: object) -> TypeGuard[str]:
    """Check that a value can be one of an input's choices; names of files sometimes have marks of direction."""
    return isinstance(value, str) and len(value) <= NAME and not _BROKEN.search(value)


def is_number(value: object) -> TypeGuard[float]:
    """Check that a value is a number to calculate with: not a boolean, not infinite, within 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -(2**63) <= value < 2**63 if isinstance(value, int) else math.isfinite(value)


# ---- JSON -----------------------------------------------------------------------------------------


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= _LONGEST_NUMBER else None


def _real(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


# numbers out of range, Infinity and NaN are read as None
DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_int=_whole, parse_float=_real)


def parse_json(text: str) -> Any:
    """The JSON value of a text. Raises Unacceptable when it is not JSON, or has more values than an answer needs."""
    demand_few_values(text)
    try:
        return DECODER.decode(text.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        raise Unacceptable(NOT_JSON) from None


def demand_few_values(text: str) -> None:
    """Raise Unacceptable when the JSON of a text has more values than an answer needs."""
    if len(text) > _VALUES and text.count(",") + text.count("[") + text.count("{") > _VALUES:
        raise Unacceptable(f"the answer has more than {_VALUES:,} values")


# ---- bytes ----------------------------------------------------------------------------------------


def decode_text(content: bytes) -> str:
    """The text of an answer, as UTF-8 or else Latin-1, whatever charset its headers claim."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


class Unpacker:
    """Unpacks the body of an answer, in pieces of 64 kB at most."""

    def __init__(self, encoding: str) -> None:
        kind = encoding.strip().lower()
        if kind not in {"", "identity", "gzip", "x-gzip", "deflate"}:
            raise Unacceptable(f"it packed its answer as {cleaned(kind, 40)!r}, which was not asked for")
        width = zlib.MAX_WBITS if kind == "deflate" else zlib.MAX_WBITS | 16
        self._unzip = None if kind in {"", "identity"} else zlib.decompressobj(width)

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """Unpack the next bytes. Raises Unacceptable when they are damaged."""
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
