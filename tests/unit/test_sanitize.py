"""A server's answers are measured, and their texts cut and cleaned."""

from __future__ import annotations

import gzip
import zlib

import pytest

from reggen.comfy.sanitize import (
    NAME,
    TEXT,
    Unacceptable,
    Unpacker,
    cleaned,
    is_choice,
    is_name,
    is_number,
    parse_json,
)


def test_a_text_is_cut_and_loses_what_a_terminal_obeys() -> None:
    """Escapes, other control characters, reversed writing, half characters: none of it reaches a screen or a file."""
    assert cleaned("\x1b[2J red\x07\x9b \u202egnp.exe \ud800 ok\u2069") == " [2J red    gnp.exe   ok "
    assert cleaned("x" * (TEXT + 1)) == "x" * (TEXT - 1) + "…"
    cleaned("Grüße, 日本語 👩‍👩‍👧").encode()
    assert cleaned("Grüße, 日本語 👩‍👩‍👧") == "Grüße, 日本語 👩‍👩‍👧"


def test_what_is_no_text_is_shown_as_one() -> None:
    """Even what Python refuses to write down."""
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert cleaned({"a": [1, None]}) == "{'a': [1, None]}"
    assert cleaned(10**5_000) == cleaned(nested) == "something unreadable"


@pytest.mark.parametrize("odd", ["a\nb", "\x1b[0m", "\ud800", "\u202eb", "x" * (NAME + 1), 5, None, ["a"]], ids=ascii)
def test_a_name_is_taken_as_it_is_or_not_at_all(odd: object) -> None:
    """A cleaned name would be another name."""
    assert not is_name(odd)
    assert is_name("reggen/1a2b/0000/reg_001.0.0_00001_.png")


def test_a_file_name_with_a_mark_can_be_chosen() -> None:
    """A name pasted from a dialogue of Windows begins with such a mark; the job may name it the same way."""
    assert is_choice("\u202amodel.safetensors")
    assert not is_choice("\ud800.safetensors")


def test_numbers_are_finite_and_of_a_size() -> None:
    """A number that a database or a division cannot take is refused."""
    assert all(is_number(one) for one in (0, -1, 2**63 - 1, 1.5))
    assert not any(is_number(one) for one in (True, None, "1", float("inf"), float("nan"), 2**63, 10**400))


def test_what_is_no_number_is_nothing() -> None:
    """Python reads and writes NaN and Infinity as if they were JSON, and numbers of any length."""
    text = "[NaN, Infinity, -Infinity, 1e999, -1e999, 1.5, 7, 1" + "0" * 4_999 + "]"
    assert parse_json(text) == [None, None, None, None, None, 1.5, 7, None]


@pytest.mark.parametrize(
    "text",
    ["", "<html>", "[" * 100_000, '{"a":' * 50_000, "[1,]", '"' + "x" * 10, "{" + '"a":1,' * 1_000_001 + '"b":1}'],
    ids=["empty", "page", "deep list", "deep table", "comma", "torn", "values"],
)
def test_what_cannot_be_read_has_a_reason(text: str) -> None:
    """In words, and as one kind of error."""
    with pytest.raises(Unacceptable) as caught:
        parse_json(text)
    assert caught.value.what in {"the answer is not JSON", "the answer has more than 1,000,000 values"}


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("", b"x" * 1_000_000),
        ("gzip", gzip.compress(b"x" * 1_000_000)),
        ("GZip ", gzip.compress(b"x" * 1_000_000)),
        ("deflate", zlib.compress(b"x" * 1_000_000)),
    ],
    ids=["plain", "gzip", "written oddly", "deflate"],
)
def test_a_packed_body_is_unpacked_in_small_pieces(encoding: str, packed: bytes) -> None:
    """A kilobyte that unpacks to a gigabyte never lies in memory whole."""
    pieces = list(Unpacker(encoding).feed(packed))
    assert b"".join(pieces) == b"x" * 1_000_000
    assert encoding == "" or max(map(len, pieces)) <= 1 << 16


def test_a_body_that_cannot_be_unpacked_has_a_reason() -> None:
    """Damaged, or packed in a way that nobody asked for."""
    with pytest.raises(Unacceptable, match="damaged"):
        list(Unpacker("gzip").feed(b"no gzip"))
    with pytest.raises(Unacceptable, match="packed its answer as 'br'"):
        Unpacker("br")
