"""From raw tables to a `Job`, or to all of their problems at once, in the words of the job file's author."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from reggen.aliases import key_called
from reggen.errors import JobError, Problem
from reggen.job.cross_checks import cross_check
from reggen.job.models import Job
from reggen.job.sampling import SIDES
from reggen.job.section import Section
from reggen.job.servers import DEFAULT_URL
from reggen.wording import cut, did_you_mean, listed, value_text

_LINE = 300  # characters of a sentence about a value


def validated(document: Mapping[str, Any], source: str) -> Job:
    """The job in the tables of a job file. Raises JobError, in the name of ``source``, with every problem found."""
    try:
        return Job.model_validate(document)
    except ValidationError as error:
        problems = {problem.key: problem for problem in (*cross_check(document), *_problems(error))}
        renamed = {home for key in problems if (home := key_called(key.rpartition(".")[2]))}
        told = [one for one in problems.values() if one.key not in renamed or not one.problem.startswith("is missing")]
        raise JobError(source, tuple(told)) from None


def _problems(error: ValidationError) -> Iterator[Problem]:
    """Translate what pydantic found; echoes of one problem are left out."""
    found = error.errors(include_url=False)
    tables = {item["loc"][:1] for item in found if len(item["loc"]) > 1}
    lists = {item["loc"][:at] for item in found if (at := _list_branch(item["loc"])) is not None}
    for item in found:
        place = item["loc"]
        if place[-1:] == ("str",) and place[:-1] in lists:
            continue  # a list with a wrong part is no wrong text as well
        if not place or place in tables:
            continue  # the cross checks say it better; a table's own problem is only the echo of its keys'
        location = [part for part in place if not _is_branch(part)]
        key = ".".join(cut(str(part)) for part in location)
        yield _problem(re.sub(r"\.(\d+)", r"[\1]", key), location, item)


def _is_branch(part: int | str) -> bool:
    """True for a part of pydantic's location that names one of the forms a value may have, and is no key."""
    return isinstance(part, str) and (part in {"str", "Weighted", "int"} or part.startswith("tuple["))


def _list_branch(place: tuple[int | str, ...]) -> int | None:
    """The position in a location at which pydantic tried a list."""
    return next((at for at, part in enumerate(place[:-1]) if str(part).startswith("tuple[")), None)


def _problem(key: str, location: list[int | str], item: Any) -> Problem:
    kind, context = item["type"], item.get("ctx", {})
    got = item.get("input")
    match kind:
        case "extra_forbidden":
            return Problem(key, "is not a key of the job file", _nearest_key(location))
        case "missing":
            return Problem(key, "is missing", "")
        case "multiple_of":
            return Problem(key, f"{value_text(got)} is not a multiple of {context['multiple_of']}", _nearest_size(got))
        case "literal_error":
            choices = re.findall(r"'([^']*)'", context["expected"])
            hint = did_you_mean(got, choices) if isinstance(got, str) else ""
            return Problem(key, f"{value_text(got)} is none of {', '.join(choices)}", hint)
        case "value_error":
            return Problem(key, cut(str(context["error"]), _LINE))
    if problem := _wrong_form(kind, key, str(location[-1]), got):
        return problem
    message = item["msg"][:1].lower() + item["msg"][1:]
    shown = "" if isinstance(got, dict | list) or "headers" in location else f"{value_text(got)}: "
    return Problem(key, shown + cut(message.replace("input", "it"), _LINE))


def _wrong_form(kind: str, key: str, name: str, got: Any) -> Problem | None:
    """A text for a table, a table for a list and so on, in TOML's terms."""
    match kind:
        case "tuple_type" if key == "servers":
            return Problem(key, "are a list", f"write [[servers]] above each, or servers = ['{DEFAULT_URL}']")
        case "too_short" if key == "servers":
            return Problem(key, "at least one is needed", "leave it out for the one on this machine")
        case "tuple_type" if key == "class":
            return Problem(key, "is a list of [[class]] blocks", "for one class it belongs to dataset.class")
        case "model_type" if key.startswith("servers"):
            return Problem(key, "is neither an address nor a table")
        case "model_type" if "positive[" in key:
            return Problem(key, f"{value_text(got)} is neither a text nor {{ text = '...', weight = 2 }}")
        case "model_type":
            return Problem(key, "is a table", f"write [{key}] and its keys below")
        case "dict_type":
            return Problem(key, "is a table", f"{name} = {{NAME = 'value'}}")
        case "tuple_type" | "string_type" if name == "positive":
            return Problem(key, "is neither a text nor a list of texts")
        case "tuple_type" if isinstance(got, str | int | float) and name not in {"size", "resolution"}:
            shown = cut(json.dumps(got, ensure_ascii=False)) if isinstance(got, str) else value_text(got)
            shown = "..." if name == "urls" else shown  # addresses hold secrets
            return Problem(key, "is a list, of one or more", f"write it as a list: {name} = [{shown}]")
    return None


def _nearest_size(got: Any) -> str:
    if not isinstance(got, int | float):
        return ""
    low = int(got) // 8 * 8
    sizes = [str(size) for size in (low, low + 8) if SIDES[0] <= size <= SIDES[1]]
    return f"{listed(sizes)} {'are' if len(sizes) > 1 else 'is'}" if sizes else ""


def _nearest_key(location: list[int | str]) -> str:
    """The table that an unknown key belongs to, a key that is spelled much like it, or the keys there are."""
    table: type[Section] = Job
    for part in location[:-1]:
        if isinstance(part, str):
            named = next(field for name, field in table.model_fields.items() if part in {name, field.alias})
            table = _table_in(named.annotation) or table
    if called := key_called(str(location[-1])):
        return f"here it is called {called}"
    if home := _home_of(location[-1]):
        return f"it belongs to {home}"
    keys = _keys(table)
    return did_you_mean(cut(str(location[-1])), keys) or f"the keys here are {', '.join(keys)}"


def _keys(table: type[Section]) -> list[str]:
    return [field.alias or name for name, field in table.model_fields.items()]


def _table_in(annotation: Any) -> type[Section] | None:
    """The table that a field holds: itself, one that may be left out, or a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := _table_in(part))), None)


def _home_of(key: int | str) -> str:
    """The place of a key in the table that has it; empty where none has."""
    for section, field in Job.model_fields.items():
        table = _table_in(field.annotation)
        if table and key in _keys(table):
            return f"{field.alias or section}.{key}"
    return ""
