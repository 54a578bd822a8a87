"""From a TOML file to a `Job`, or to all of its problems at once; the job file's JSON schema."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from reggen.errors import JobError, Problem
from reggen.files import MIB, text_of
from reggen.job.models import Job
from reggen.job.paths import with_paths_found
from reggen.job.toml_errors import encoding_problem, toml_problem
from reggen.job.validation import validated
from reggen.wording import nearest

Overrides = Mapping[str, Mapping[str, Any] | list[Any]]

_LARGEST = 4 * MIB  # a longer list of prompts belongs into a wildcard file


def load(path: str | PurePath, overrides: Overrides | None = None) -> Job:
    """Read and validate a job file.

    ``overrides`` are tables merged over the file's, lists in place of the file's. Raises JobError with every problem
    found.
    """
    overrides = overrides or {}
    dataset = overrides.get("dataset")
    root = dataset.get("root") if isinstance(dataset, Mapping) else None
    words = (str(path), *(() if root is None else ("--output", str(root))))
    document, remarks = with_paths_found(_read(Path(path)), Path(path))
    return parse(document, overrides, source=str(path)).read_from(str(path), words, remarks)


def parse(document: Mapping[str, Any], overrides: Overrides | None = None, *, source: str = "the job") -> Job:
    """Validate a job given as the tables of its file. Raises JobError, as `load` does, about ``source``."""
    return validated(_merged(document, overrides or {}), source)


def _merged(document: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    merged = dict(document)
    for section, values in overrides.items():
        below = merged.get(section, {})
        merged[section] = {**below, **values} if isinstance(values, Mapping) and isinstance(below, dict) else values
    return merged


def schema() -> dict[str, Any]:
    """The job file's JSON schema, for editors."""
    made = Job.model_json_schema(by_alias=True)
    servers = made["properties"]["servers"]
    servers["items"] = {"anyOf": [{"type": "string", "description": "A plain address."}, servers["items"]]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "reggen job file"}


def _read(path: Path) -> dict[str, Any]:
    text = ""
    try:
        text = text_of(path, _LARGEST, piped=True)
        return tomllib.loads(text)
    except FileNotFoundError:
        near = nearest(path.name, _job_files_beside(path))
        hint = f"did you mean {path.parent / near}?" if near else "name a job file such as configs/spyke.toml"
        raise JobError(str(path), (Problem("", "there is no such file", hint),)) from None
    except UnicodeDecodeError as error:
        raise JobError(str(path), (encoding_problem(error.object, error.start),)) from None
    except OSError as error:
        raise JobError(str(path), (Problem("", f"it cannot be read: {error.strerror}"),)) from None
    except tomllib.TOMLDecodeError as error:
        raise JobError(str(path), (toml_problem(text, str(error)),)) from None
    except ValueError:
        raise JobError(str(path), (Problem("", "it has a number with more than 4,300 digits"),)) from None
    except RecursionError:
        raise JobError(str(path), (Problem("", "its lists or tables are nested too deeply"),)) from None


def _job_files_beside(path: Path) -> list[str]:
    try:
        return [entry.name for entry in path.parent.iterdir() if entry.suffix == ".toml"]
    except OSError:
        return []
