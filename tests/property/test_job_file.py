"""Job files of every shape: the answer is a job or sentences, soon, and never a traceback."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from reggen.errors import JobError, Problem
from reggen.job import loader
from reggen.prepare.prepared_job import prepare
from reggen.report.plan_preview import format_plan

LEAST: dict[str, Any] = {
    "dataset": {"root": "reg", "class": "person", "count": 3},
    "sampling": {"checkpoint": "base"},
    "prompts": {"positive": "a person"},
}
BESIDE: dict[str, dict[str, Any]] = {"servers": {"launch": "comfy"}, "class": {"words": "person"}}
LISTS = {"servers", "class"}
SENTENCE = 2_000  # letters that a problem may have at most


def _keys() -> Iterator[tuple[str, ...]]:
    """Every key of a job file, with the sections it lies in."""
    schema = loader.schema()
    for name, section in schema["properties"].items():
        yield (name,)
        text = json.dumps(section)
        for model, inner in schema["$defs"].items():
            if f'#/$defs/{model}"' in text:
                yield from ((name, key) for key in inner["properties"])


KEYS = sorted(_keys())
PLAIN = st.one_of(
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**40 - 1, 2**53, 2**63, -(2**63), 10**400]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([1e-300, 1e308]),
    st.text(max_size=8),
    st.sampled_from(
        ["match", "auto", "captions", "training", "x" * 300, " " * 5_000, "{" * 60, "__a- " * 500, "9" * 5_000]
    ),
    st.just(date(1979, 5, 27)),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["url", "text", "weight", "words", "a", "root", "file", "folder"]), inner, max_size=3
        ),
    ),
    max_leaves=5,
)


def toml(value: Any) -> str:
    """A value as a job file has it."""
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value) if abs(value) < 10**400 else hex(abs(value))
        case float():
            return repr(value)
        case str():
            return json.dumps(value).replace("\x7f", "\\u007f")
        case date():
            return value.isoformat()
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return f"{{ {', '.join(f'{toml(key)} = {toml(inner)}' for key, inner in value.items())} }}"
    raise AssertionError(value)


def _written(changes: list[tuple[tuple[str, ...], Any]], folder: Path) -> Path:
    """A job file with these values at these keys, and what they need beside them to be looked at."""
    document: dict[str, Any] = {name: dict(section) for name, section in LEAST.items()}
    document["dataset"]["root"] = (folder / "reg").as_posix()
    for (name, *rest), value in changes:
        if not rest:
            document[name] = value
        elif isinstance(section := document.setdefault(name, dict(BESIDE.get(name, {}))), dict):
            section[rest[0]] = value
    for name in LISTS & set(document):
        if isinstance(document[name], dict):
            document[name] = [document[name]]
    if isinstance(training := document.get("training"), dict):
        training.setdefault("folder", (folder / "train").as_posix())
        subset = folder / "train" / "2_person"
        subset.mkdir(parents=True)
        Image.new("RGB", (640, 512)).save(subset / "a.png")
        (subset / "a.caption").write_text("a person")
    file = folder / "job.toml"
    file.write_text("\n".join(f"{name} = {toml(value)}" for name, value in document.items()), encoding="utf-8")
    return file


@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), min_size=1, max_size=3))
@settings(max_examples=150, deadline=5_000, suppress_health_check=[HealthCheck.too_slow])
def test_a_job_file_of_any_shape_is_planned_or_told(changes: list[tuple[tuple[str, ...], Any]]) -> None:
    """Foreign types and huge values at every key, read, studied and planned: each fault is a short sentence."""
    with tempfile.TemporaryDirectory() as folder:
        file = _written(changes, Path(folder))
        reported = _reported(file)
    assert all(len(str(problem)) < SENTENCE for problem in reported)


def _reported(file: Path) -> tuple[Problem, ...]:
    try:
        for prepared in prepare(loader.load(file), str(file)):
            format_plan(prepared, str(file))
    except JobError as error:
        return error.problems
    return ()
