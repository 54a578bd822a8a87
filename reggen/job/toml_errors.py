"""Faults of a file that is not TOML, in the words of its author: the line, a caret, and the remedy. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reggen.errors import Problem
from reggen.wording import cut

_WIDTH = 72  # letters of a line that are shown
_SECRET = re.compile(r"headers|authorization|bearer|token|password|secret|urls\s*=|://[^/\s]*@", re.IGNORECASE)
_PLACE = re.compile(r"\(at (?:line (\d+), column (\d+)|end of document)\)$")
_ESCAPE = re.compile(r"Unescaped|hex value|escape")
_OTHER_WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false", "true": "true", "false": "false"}
_INVISIBLE = {"\u00a0": "a non-breaking space", "\u200b": "an invisible space", "\ufeff": "an invisible mark"}
_QUOTES = dict.fromkeys("“”„‟«»", '"') | dict.fromkeys("\u2018\u2019\u201a\u201b`\u00b4", "'")
_VALUE = re.compile(r"^\s*([\w.\"'-]+)\s*=\s*(.*?)\s*$")
_TABLES = (
    *("dataset", "servers", "sampling", "prompts", "workflow", "checks", "training"),
    *("guard", "matrix", "captions", "limits", "notify", "class"),
)
_BEGIN = "a job file begins with [dataset], and below it root = '...'"

Finding = tuple[str, str]
"""A fault, and its remedy."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A fault in a text: the reader's message, the line with its number, and the column, all counted from 1."""

    text: str
    message: str
    number: int
    column: int

    @property
    def line(self) -> str:
        return self.text.split("\n")[self.number - 1]

    @property
    def char(self) -> str:
        return self.line[self.column - 1 : self.column]

    @property
    def assigned(self) -> tuple[str, str]:
        """Key and value of the line, "" where it has none."""
        match = _VALUE.match(self.line)
        return (match[1], match[2]) if match else ("", "")


def toml_problem(text: str, message: str) -> Problem:
    """The problem of a text that tomllib refused with this message."""
    if other := _other_format(text):
        return Problem("", *other)
    place = _place(text, message)
    unknown = f"it is not TOML: {place.message[:1].lower()}{cut(place.message[1:])}", ""
    if _SECRET.search(place.line):
        return Problem(f"line {place.number}", *unknown)
    return Problem(f"line {place.number}", *next(_findings(place), unknown), _excerpt(place))


def encoding_problem(data: bytes, start: int) -> Problem:
    """The problem of bytes that are not UTF-8 at ``start``."""
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        remedy = "save it as UTF-8; in PowerShell: Set-Content -Encoding utf8"
        return Problem("", "it is UTF-16, as PowerShell's > writes it", remedy)
    if b"\0" in data[:4096]:
        return Problem("", f"it is not a text (byte {start} is not UTF-8)", _BEGIN)
    number, byte = data.count(b"\n", 0, start) + 1, data[start : start + 1]
    shown = f"0x{byte.hex().upper()}, {byte.decode('cp1252', 'replace')!r} in Windows' own encoding"
    return Problem(f"line {number}", f"it is not UTF-8 ({shown})", "save the file as UTF-8")


def _place(text: str, message: str) -> _Place:
    """The place that a message of tomllib names; of the end of the document, where the open text or list begins."""
    found = _PLACE.search(message)
    what = _PLACE.sub("", message).strip()
    number, column = (int(found[1]), int(found[2])) if found and found[1] else (0, 0)
    lines = text.split("\n")
    if not 0 < number <= len(lines):
        opening = [(at, line) for at, line in enumerate(lines, 1) if '"""' in line or "'''" in line]
        if opening and "nclosed" not in what:
            number, column = opening[-1][0], re.search(r"\"\"\"|'''", opening[-1][1]).start() + 1  # type: ignore[union-attr]
        else:
            number = max((at for at, line in enumerate(lines, 1) if line.strip()), default=1)
            column = len(lines[number - 1]) + 1
    if _ESCAPE.search(what):
        column = text.split("\n")[number - 1].rfind("\\", 0, column) + 1 or column
    return _Place(text, what, number, column)


def _excerpt(place: _Place) -> str:
    """The line with a caret below the column."""
    first = max(0, place.column - _WIDTH + 8)
    shown = "".join(letter if letter.isprintable() else " " for letter in place.line[first : first + _WIDTH])
    return f"{shown.rstrip()}\n{' ' * (place.column - 1 - first)}^"


def _other_format(text: str) -> Finding | None:
    """A file that is something else altogether."""
    start = text.lstrip()
    if start.startswith("{"):
        if '"class_type"' in text or '"last_node_id"' in text:
            return "it is a ComfyUI workflow", "name it in a job file: [workflow] and below it file = '...'"
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return "it looks like JSON, and a job file is TOML", _BEGIN
        return "it is JSON, and a job file is TOML", _BEGIN
    first = next((line for line in text.split("\n") if line.strip() and not line.startswith(("#", "---"))), "")
    if re.fullmatch(r"\w+:\s*", first):
        return "it is YAML, and a job file is TOML", _BEGIN
    return ("it is a web page or XML, and a job file is TOML", _BEGIN) if start.startswith("<") else None


def _findings(place: _Place) -> Iterator[Finding]:
    """The kinds of faults that apply to a place, the surest first."""
    kinds: tuple[Callable[[_Place], Finding | None], ...] = (
        *(_typographic, _invisible, _twice, _backslash, _unclosed_text, _unclosed_list, _header),
        *(_comment, _equals, _empty, _word, _decimal, _leading_zero, _unquoted, _inline_table, _behind),
    )
    yield from (found for kind in kinds if (found := kind(place)))


def _typographic(place: _Place) -> Finding | None:
    if place.char not in _QUOTES or not place.char:
        return None
    return f"{place.char} is a typographic quote", f"write {_QUOTES[place.char]} instead, at both ends"


def _invisible(place: _Place) -> Finding | None:
    what = _INVISIBLE.get(place.char)
    return (f"{what} stands here", "write a normal space") if what else None


def _twice(place: _Place) -> Finding | None:
    lines = place.text.split("\n")[: place.number - 1]
    if table := re.match(r"\s*\[+\s*([\w.-]+)\s*\]+", place.line):
        if "declare" not in place.message and "overwrite" not in place.message:
            return None
        first = [at for at, line in enumerate(lines, 1) if re.match(rf"\s*\[+\s*{re.escape(table[1])}\s*\]", line)]
        also = f", first in line {first[0]}" if first else ""
        return f"[{table[1]}] stands twice{also}", "move the keys below the first one"
    key = place.assigned[0]
    if "overwrite" not in place.message or not key:
        return None
    first = [at for at, line in enumerate(lines, 1) if re.match(rf"\s*{re.escape(key)}\s*=", line)]
    return f"{key} stands twice" + (f", first in line {first[-1]}" if first else ""), "keep one of the two"


def _backslash(place: _Place) -> Finding | None:
    if not _ESCAPE.search(place.message):
        return None
    if re.search(r"""["'][A-Za-z]:\\|["']\\\\""", place.line):
        return 'a backslash begins an escape in a "..." text', "write Windows paths with / or in 'single quotes'"
    if found := re.search(r"(?<!\\)\\([{}|$_()\[\]])", place.line):
        remedy = f"write \\\\{found[1]} for {found[0]}, or put the text in 'single quotes'"
        return f'{found[0]} is no escape in a "..." text', remedy
    return 'a backslash begins an escape in a "..." text', "write two of them, or put the text in 'single quotes'"


def _unclosed_text(place: _Place) -> Finding | None:
    message = place.message
    opened = '"""' in place.line[place.column - 1 :] and "Unterminated" in message
    if opened or "'''" in message or '"""' in message:
        quotes = "'''" if "'''" in place.line else '"""'
        return f"the text that begins with {quotes} here is never closed", f"write {quotes} behind its end"
    ended = "Illegal character '\\n'" in message or "Unterminated" in message or 'Expected "\'"' in message
    if not ended:
        return None
    key, value = place.assigned
    quote = value[:1] if value[:1] in {'"', "'"} else '"'
    whole = f"{key} = {cut(value, 40)}{quote}" if key and value.count(quote) == 1 else f"{quote} behind it"
    return "the text is not closed: a quote is missing", f'write {whole}; """ encloses a text of several lines'


def _unclosed_list(place: _Place) -> Finding | None:
    left_open = place.line.count("[") > place.line.count("]") and place.assigned[0] and not place.char
    if "nclosed array" not in place.message and not left_open:
        return None
    return "the list is not closed", "write a comma between two values, and ] behind the last"


def _header(place: _Place) -> Finding | None:
    name = place.line.strip().strip("[]: ")
    if place.line.strip().startswith("[") and "at the end of a table" in place.message:
        return "the line of a table ends with ]", f"write [{name}]"
    return (f"{name} is a table", f"write [{name}]") if name in _TABLES and "=" not in place.line else None


def _comment(place: _Place) -> Finding | None:
    mark = re.match(r"\s*(//|;|--|/\*|%|')", place.line)
    return (f"{mark[1]} begins no comment in TOML", "comments begin with #") if mark and not place.assigned[0] else None


def _equals(place: _Place) -> Finding | None:
    if found := re.match(r"\s*([\w.-]+)\s*(:=?|=>|==)\s*(.*)", place.line):
        return f"{found[2]} stands where = belongs", f"write {found[1]} = {cut(found[3] or '...', 40)}"
    found = re.fullmatch(r"\s*([\w-]+)\s+([\"'\d\[].*)", place.line)
    return ("there is no = between key and value", f"write {found[1]} = {cut(found[2], 40)}") if found else None


def _empty(place: _Place) -> Finding | None:
    found = re.fullmatch(r"\s*([\w.-]+)\s*=\s*(#.*)?", place.line)
    return (f"{found[1]} has no value", "write one behind the =, or take the line away") if found else None


def _word(place: _Place) -> Finding | None:
    word = re.match(r"\w*", place.line[place.column - 1 :])
    said = word[0] if word else ""
    if said.lower() in {"none", "null", "nil"}:
        return f"TOML has no {said}", "leave the key out"
    meant = _OTHER_WORDS.get(said.lower())
    return (f"{said} is not a value of TOML", f"write {meant}") if meant and "value" in place.message else None


def _decimal(place: _Place) -> Finding | None:
    key, value = place.assigned
    found = re.match(r"(-?\d+),\s*(\d+)(?![\d,])", value)
    if not found:
        return None
    if len(found[2]) == 3 and key not in {"size", "resolution"} and " " not in found[0]:
        return f"{found[0]} has a comma", f"write {key} = {found[1]}{found[2]}"
    if key in {"size", "resolution"} or len(found[2]) > 2:
        return f"{found[0]} is two numbers", f"write {key} = [{found[1]}, {found[2]}]"
    return f"{found[0]} has a comma where TOML has a point", f"write {key} = {found[1]}.{found[2]}"


def _leading_zero(place: _Place) -> Finding | None:
    key, value = place.assigned
    found = re.fullmatch(r"0+(\d+)", value.partition("#")[0].strip())
    return (f"{found[0]} begins with a zero", f"write {key} = {found[1]}") if found else None


def _unquoted(place: _Place) -> Finding | None:
    key, value = place.assigned
    value = value.partition(" #")[0].strip()
    if "value" not in place.message or not re.match(r"[^\W\d]|[./~\\$]", value):
        return None
    text = value.strip("\"'")
    quote = "'" if "\\" in text or '"' in text else '"'
    return f"{cut(text, 40)} is a text without quotes", f"write {key} = {quote}{cut(text, 40)}{quote}"


def _inline_table(place: _Place) -> Finding | None:
    before = place.line[: place.column - 1].rstrip()
    if place.char == "}" and before.endswith(","):
        return "a comma stands before }", "take it away"
    if before.count("{") > before.count("}") and place.column > len(place.line.rstrip()):
        return "a table in { } goes over several lines", "write it on one line"
    return None


def _behind(place: _Place) -> Finding | None:
    if "newline or end of document" not in place.message:
        return None
    rest = place.line[place.column - 1 :].strip()
    return f"{cut(rest, 40)} stands behind the value", "take it away; only a comment, with #, may stand there"
