"""A long listing is read item by item, however it is cut into pieces on its way."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reggen.comfy.json_stream import ITEM, ITEMS, ItemReader
from reggen.comfy.sanitize import Unacceptable

finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | finite | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=10,
)


def skimmed(content: bytes, size: int, *, lists: bool) -> Any:
    skimmer = ItemReader(lambda item: item, lists=lists)
    for start in range(0, len(content), size):
        skimmer.feed(content[start : start + size])
    return skimmer.end()


@given(st.dictionaries(st.text(max_size=4), values, max_size=5), st.integers(1, 40), st.booleans())
def test_entries_are_what_json_says(body: dict[str, Any], size: int, tight: bool) -> None:
    """In pieces of any size, with and without spaces, in letters of any script."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":") if tight else None)
    content = text.encode("utf-8", "replace")
    assert skimmed(content, size, lists=False) == json.loads(content)


@given(st.dictionaries(st.text(max_size=4), st.lists(values, max_size=4) | values, max_size=4), st.integers(1, 40))
def test_lists_are_what_json_says(body: dict[str, Any], size: int) -> None:
    """Anything else in the place of a list is read as nothing."""
    content = json.dumps(body, indent=1).encode()
    expected = {key: value if isinstance(value, list) else None for key, value in json.loads(content).items()}
    assert skimmed(content, size, lists=True) == expected


@given(st.binary(max_size=60) | st.text(alphabet='{}[],:"1a \\', max_size=30).map(str.encode), st.booleans())
def test_what_is_no_object_does_not_pass(content: bytes, lists: bool) -> None:
    """Nothing but Unacceptable is raised, and nothing but an object comes out."""
    with suppress(Unacceptable):
        assert isinstance(skimmed(content, 7, lists=lists), dict)


def test_a_long_queue_is_held_item_by_item() -> None:
    """300 prompts with large workflows: 18 MB pass, and little more than one of them is in memory."""
    workflow = "w" * 60_000
    item = json.dumps([1, "id", {"1": {"inputs": {"text": workflow}}}, {}, []]).encode()
    skimmer = ItemReader(lambda one: one[1], lists=True)
    tracemalloc.start()
    try:
        skimmer.feed(b'{"queue_running": [], "queue_pending": [')
        for number in range(300):
            skimmer.feed((b"," if number else b"") + item)
        skimmer.feed(b"]}")
        body = skimmer.end()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert body == {"queue_running": [], "queue_pending": ["id"] * 300}
    assert most < 2_000_000


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'{"a": ["' + b"x" * (2 * ITEM), "an item of more than 8 MB"),
        (b'{"a": [' + b"1," * (ITEMS + 1), "more than 20,000 items"),
        (b'{"a": [' + b"[" * 200_000, "not JSON"),
        (b'{"a": [[' + b"[]," * 1_300_000, "more than 1,000,000 values"),
        (b'{"a": []} {', "not JSON"),
        (b'{"a": [1]', "not JSON"),
    ],
    ids=["item", "items", "deep", "values", "more", "torn"],
)
def test_a_listing_without_measure_does_not_pass(content: bytes, what: str) -> None:
    """Each limit has its words."""
    with pytest.raises(Unacceptable, match=what):
        skimmed(content, 1 << 16, lists=True)
