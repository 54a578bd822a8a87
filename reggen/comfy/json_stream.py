"""Reads long listings item by item while they arrive, so that no more than one item is held whole. Pure: no I/O.

The two that can be long are /queue, an object of lists, and /history, an object of entries.
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
_AFTER = frozenset(" \t\r\n,:]}")
_SPACE = re.compile(r"[ \t\r\n]*")


class ItemReader:
    """Feed it the bytes of a JSON object; `end` returns the object, each of its items made ``slim`` on its way.

    With ``lists`` the values are lists, and their members the items. Raises Closed, from both.
    """

    def __init__(self, slim: Callable[[Any], Any], *, lists: bool) -> None:
        self._slim, self._lists = slim, lists
        self._bytes = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._text, self._at, self._needs = "", 0, 0
        self._whole, self._ended, self._items = False, False, 0
        self._body: dict[str, Any] = {}
        self._reading = self._read()

    def feed(self, content: bytes) -> None:
        """The next bytes."""
        self._text = self._text[self._at :] + self._bytes.decode(content, self._whole)
        self._at = 0
        if self._text and (len(self._text) >= self._needs or self._whole):
            next(self._reading, None)

    def end(self) -> dict[str, Any]:
        """All bytes were fed."""
        self._whole = True
        self.feed(b"")
        if not self._ended:
            raise Unacceptable(NOT_JSON)
        return self._body

    def _read(self) -> Generator[None, None, None]:
        yield from self._pass("{")
        while (yield from self._next()) != "}":
            key = yield from self._value()
            if not isinstance(key, str):
                raise Unacceptable(NOT_JSON)
            yield from self._pass(":")
            if not self._lists:
                self._put(key, self._slim((yield from self._value())))
            elif (yield from self._next()) == "[":
                self._put(key, (yield from self._list()))
            else:
                yield from self._value()
                self._put(key, None)
            if (yield from self._next()) != "}":
                yield from self._pass(",")
        self._at += 1
        self._ended = True
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                raise Unacceptable(NOT_JSON)
            yield

    def _list(self) -> Generator[None, None, list[Any]]:
        items = []
        yield from self._pass("[")
        while (yield from self._next()) != "]":
            items.append(self._slim((yield from self._value())))
            self._count()
            if (yield from self._next()) != "]":
                yield from self._pass(",")
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

    def _next(self) -> Generator[None, None, str]:
        """The next character that is no space; it stays."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr] # it matches nothing, too
            if self._at < len(self._text):
                return self._text[self._at]
            yield from self._more(1)

    def _pass(self, expected: str) -> Generator[None, None, None]:
        if (yield from self._next()) != expected:
            raise Unacceptable(NOT_JSON)
        self._at += 1

    def _value(self) -> Generator[None, None, Any]:
        """The next value, once all of it is here. What failed is tried again when there is twice as much text."""
        while True:
            yield from self._next()
            demand_few_values(self._text)
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if self._whole:
                    raise Unacceptable(NOT_JSON) from None
            except (ValueError, RecursionError):
                raise Unacceptable(NOT_JSON) from None
            else:
                if self._whole or self._text[end : end + 1] in _AFTER:  # otherwise a number goes on
                    self._at = end
                    return value
            held = len(self._text) - self._at
            if held > ITEM:
                raise Unacceptable(f"the answer has an item of more than {ITEM >> 20} MB")
            yield from self._more(min(2 * held, ITEM + 1))

    def _more(self, needs: int) -> Generator[None, None, None]:
        if self._whole:
            raise Unacceptable(NOT_JSON)
        self._needs = needs
        yield
