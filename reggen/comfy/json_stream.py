"""Long listings, read item by item while they arrive, so that only one item is held whole. Pure: no I/O.

Two can be long: /queue, an object of lists, and /history, an object of entries.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Generator
from typing import Any

from reggen.comfy.sanitize import DECODER, NAME, NOT_JSON, Unacceptable, demand_few_values

ITEM = 8 << 20  # characters of one item; a workflow with pictures in it, written as text, has some millions
ITEMS = 20_000  # ComfyUI itself keeps half as many in its history
_ENDS_A_VALUE = frozenset(" \t\r\n,:]}")
_SPACE = re.compile(r"[ \t\r\n]*")


class ItemReader:
    """Reads a JSON object of lists or of entries: `feed` it the bytes, `end` returns the object.

    Each item is replaced by what ``slim`` keeps of it as soon as it is read. With ``lists`` the items are the members
    of the object's lists, otherwise the object's values. Both methods raise Unacceptable.
    """

    def __init__(self, slim: Callable[[Any], Any], *, lists: bool) -> None:
        self._slim, self._lists = slim, lists
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._text, self._at = "", 0  # decoded and not yet read: from `_at` on
        self._needed = 0  # characters of text without which reading on is useless
        self._all_fed, self._ended, self._items = False, False, 0
        self._body: dict[str, Any] = {}
        self._reading = self._read()

    def feed(self, content: bytes) -> None:
        """Read the next bytes."""
        self._text = self._text[self._at :] + self._decoder.decode(content, self._all_fed)
        self._at = 0
        if self._text and (len(self._text) >= self._needed or self._all_fed):
            next(self._reading, None)

    def end(self) -> dict[str, Any]:
        """The object, after all bytes were fed."""
        self._all_fed = True
        self.feed(b"")
        if not self._ended:
            raise Unacceptable(NOT_JSON)
        return self._body

    def _read(self) -> Generator[None, None, None]:
        """Read the object; yields whenever more text is needed."""
        yield from self._skip("{")
        while (yield from self._peek()) != "}":
            key = yield from self._value()
            if not isinstance(key, str):
                raise Unacceptable(NOT_JSON)
            yield from self._skip(":")
            self._put(key, (yield from self._items_of_key()))
            if (yield from self._peek()) != "}":
                yield from self._skip(",")
        self._at += 1
        self._ended = True
        while True:
            self._skip_space()
            if self._at < len(self._text):
                raise Unacceptable(NOT_JSON)
            yield

    def _items_of_key(self) -> Generator[None, None, Any]:
        if not self._lists:
            return self._slim((yield from self._value()))
        if (yield from self._peek()) == "[":
            return (yield from self._list())
        yield from self._value()
        return None

    def _list(self) -> Generator[None, None, list[Any]]:
        items = []
        yield from self._skip("[")
        while (yield from self._peek()) != "]":
            items.append(self._slim((yield from self._value())))
            self._count()
            if (yield from self._peek()) != "]":
                yield from self._skip(",")
        self._at += 1
        return items

    def _put(self, key: str, value: Any) -> None:
        self._count()
        if len(key) <= NAME:
            self._body[key] = value

    def _count(self) -> None:
        self._items += 1
        if self._items > ITEMS:
            raise Unacceptable(f"the answer has more than {ITEMS:,} items")

    def _peek(self) -> Generator[None, None, str]:
        """The next character that is not space; it is not consumed."""
        while True:
            self._skip_space()
            if self._at < len(self._text):
                return self._text[self._at]
            yield from self._more(1)

    def _skip(self, expected: str) -> Generator[None, None, None]:
        if (yield from self._peek()) != expected:
            raise Unacceptable(NOT_JSON)
        self._at += 1

    def _skip_space(self) -> None:
        self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr] # it also matches no space

    def _value(self) -> Generator[None, None, Any]:
        """The next value, once all of it is here. A failed attempt is repeated when there is twice as much text."""
        while True:
            yield from self._peek()
            demand_few_values(self._text)
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if self._all_fed:
                    raise Unacceptable(NOT_JSON) from None
            except (ValueError, RecursionError):
                raise Unacceptable(NOT_JSON) from None
            else:
                if self._all_fed or self._text[end : end + 1] in _ENDS_A_VALUE:  # otherwise a number may go on
                    self._at = end
                    return value
            held = len(self._text) - self._at
            if held > ITEM:
                raise Unacceptable(f"the answer has an item of more than {ITEM >> 20} MB")
            yield from self._more(min(2 * held, ITEM + 1))

    def _more(self, needed: int) -> Generator[None, None, None]:
        if self._all_fed:
            raise Unacceptable(NOT_JSON)
        self._needed = needed
        yield
