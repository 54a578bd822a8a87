"""A TOML file becomes a `Job`, or every one of its problems at once, in the words of the file's author."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, time
from pathlib import Path, PurePath
from typing import Any, get_args

from pydantic import ValidationError

from reggen.errors import JobError, Problem
from reggen.files import MIB, text_of
from reggen.job.cross_checks import gaps
from reggen.job.models import DEFAULT_URL, SIDES, Job, Section

_LARGEST = 4 * MIB  # a longer list of prompts belongs into a wildcard file
_SHOWN, _LINE = 80, 300  # letters of a value, and of what is said of it


def load(path: str | PurePath, overrides: Mapping[str, Mapping[str, Any] | list[Any]] | None = None) -> Job:
    """Read and validate a job file.

    ``overrides`` are the command line's: sections merged over the file's (a list replaces one whole).
    Raises JobError with every problem found.
    """
    document = _read(Path(path))
    for section, values in (overrides or {}).items():
        if isinstance(values, Mapping) and isinstance(document.get(section, {}), dict):
            document[section] = {**document.get(section, {}), **values}
        else:
            document[section] = values
    try:
        return Job.model_validate(document)
    except ValidationError as error:
        problems = {problem.key: problem for problem in (*gaps(document), *_problems(error))}
        raise JobError(str(path), tuple(problems.values())) from None


def schema() -> dict[str, Any]:
    """The job file's JSON schema, for editors."""
    made = Job.model_json_schema(by_alias=True)
    servers = made["properties"]["servers"]
    servers["items"] = {"anyOf": [{"type": "string", "description": "A plain address."}, servers["items"]]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "reggen job file"}


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text_of(path, _LARGEST, piped=True))
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, _neighbours(path), n=1, cutoff=0.4)
        hint = f"did you mean {path.parent / near[0]}?" if near else "name a job file such as configs/spyke.toml"
        raise JobError(str(path), (Problem("", "there is no such file", hint),)) from None
    except UnicodeDecodeError as error:
        raise JobError(str(path), (Problem("", f"it is not UTF-8 (byte {error.start})"),)) from None
    except OSError as error:
        raise JobError(str(path), (Problem("", f"it cannot be read: {error.strerror}"),)) from None
    except tomllib.TOMLDecodeError as error:
        escape = "\\" in str(error) or "hex value" in str(error)  # the latter is C:\Users
        hint = "on Windows write paths with / or in 'single quotes'" if escape else ""
        raise JobError(str(path), (Problem("", f"it is not TOML: {_cut(str(error))}", hint),)) from None
    except ValueError:
        raise JobError(str(path), (Problem("", "it has a number with more than 4,300 digits"),)) from None
    except RecursionError:
        raise JobError(str(path), (Problem("", "its lists or tables are nested too deeply"),)) from None


def _neighbours(path: Path) -> list[str]:
    try:
        return [entry.name for entry in path.parent.iterdir() if entry.suffix == ".toml"]
    except OSError:
        return []


def _problems(error: ValidationError) -> Iterable[Problem]:
    """Translate what pydantic found into the words of the job file's author."""
    found = error.errors(include_url=False)
    inner = {item["loc"][0] for item in found if len(item["loc"]) > 1}
    inside = {item["loc"][: _union(item["loc"])] for item in found if _union(item["loc"]) is not None}
    for item in found:
        if item["loc"][-1:] == ("str",) and item["loc"][:-1] in inside:
            continue  # a list with a wrong part is no wrong text as well
        if not item["loc"] or item["loc"] in {(name,) for name in inner}:
            continue  # the gaps say it better; a section's own fault is only the echo of its parts'
        location = [part for part in item["loc"] if not _is_branch(part)]
        key = ".".join(_cut(str(part)) for part in location)
        yield _problem(re.sub(r"\.(\d+)", r"[\1]", key), location, item)


def _is_branch(part: int | str) -> bool:
    """Whether a part of a place names one of the forms a value may have, which the file's author never wrote."""
    return isinstance(part, str) and (part in {"str", "Weighted", "int"} or part.startswith("tuple["))


def _union(place: tuple[int | str, ...]) -> int | None:
    """Where in a place it says that a list was tried."""
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
            return Problem(key, f"{_shown(got)} is not a multiple of {context['multiple_of']}", _nearest_size(got))
        case "literal_error":
            choices = re.findall(r"'([^']*)'", context["expected"])
            near = difflib.get_close_matches(got.lower(), choices, n=1) if isinstance(got, str) else []
            hint = f"did you mean {near[0]!r}?" if near else ""
            return Problem(key, f"{_shown(got)} is none of {', '.join(choices)}", hint)
        case "value_error":
            return Problem(key, _cut(str(context["error"]), _LINE))
    if form := _form(kind, key, str(location[-1]), got):
        return form
    message = item["msg"][:1].lower() + item["msg"][1:]
    shown = "" if isinstance(got, dict | list) or "headers" in location else f"{_shown(got)}: "
    return Problem(key, shown + _cut(message.replace("input", "it"), _LINE))


def _shown(value: Any) -> str:
    """A value as it is told: never longer than a line."""
    if isinstance(value, bool | date | time):  # as TOML writes it; a date with a time is a date, too
        return str(value).lower() if isinstance(value, bool) else value.isoformat()
    try:
        return _cut(repr(value))
    except (ValueError, RecursionError):  # a number of thousands of digits, written in hex; tables in tables in tables
        return "what it says"


def _cut(text: str, most: int = _SHOWN) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _form(kind: str, key: str, name: str, got: Any) -> Problem | None:
    """What is of the wrong form, in TOML's words."""
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
            return Problem(key, f"{_shown(got)} is neither a text nor {{ text = '...', weight = 2 }}")
        case "model_type":
            return Problem(key, "is a section", f"write [{key}] and its keys below")
        case "dict_type":
            return Problem(key, "is a table", f"{name} = {{NAME = 'value'}}")
        case "tuple_type" | "string_type" if name == "positive":
            return Problem(key, "is neither a text nor a list of texts")
        case "tuple_type" if isinstance(got, str | int | float) and name not in {"size", "resolution"}:
            shown = _cut(json.dumps(got, ensure_ascii=False)) if isinstance(got, str) else _shown(got)
            shown = "..." if name == "urls" else shown  # addresses hold secrets
            return Problem(key, "is a list, of one or more", f"write it as a list: {name} = [{shown}]")
    return None


def _nearest_size(got: Any) -> str:
    if not isinstance(got, int | float):
        return ""
    low = int(got) // 8 * 8
    sizes = [str(size) for size in (low, low + 8) if SIDES[0] <= size <= SIDES[1]]
    return f"{' and '.join(sizes)} {'are' if len(sizes) > 1 else 'is'}" if sizes else ""


def _nearest_key(location: list[int | str]) -> str:
    model: type[Section] = Job
    for part in location[:-1]:
        if isinstance(part, str):
            named = next(field for name, field in model.model_fields.items() if part in {name, field.alias})
            model = _model_in(named.annotation) or model
    keys = [field.alias or name for name, field in model.model_fields.items()]
    if home := _home_of(location[-1]):
        return f"it belongs to {home}"
    near = difflib.get_close_matches(_cut(str(location[-1])), keys, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"the keys here are {', '.join(keys)}"


def _model_in(annotation: Any) -> type[Section] | None:
    """The section that a field holds: itself, one that may be left out, or a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _home_of(key: int | str) -> str:
    """The section that has such a key."""
    for section, field in Job.model_fields.items():
        model = _model_in(field.annotation)
        if model and key in {inner.alias or name for name, inner in model.model_fields.items()}:
            return f"{field.alias or section}.{key}"
    return ""
