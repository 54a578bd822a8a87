"""Load a job from its file or from its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Any, Literal

from reggen.job import loader
from reggen.job.models import Job


def load(
    source: str | PathLike[str] | Mapping[str, Any],
    *,
    count: int | Literal["match"] | None = None,
    output: str | PathLike[str] | None = None,
    servers: Sequence[str] = (),
) -> Job:
    """Load and validate a job: the path of a TOML file, or the same tables as a dict.

    ``count``, ``output`` and ``servers`` replace dataset.count, dataset.root and all of servers. Raises JobError with
    every problem found.
    """
    dataset: dict[str, Any] = {}
    if count is not None:
        dataset["count"] = count
    if output is not None:
        dataset["root"] = fspath(output)
    overrides: dict[str, Any] = {"dataset": dataset} if dataset else {}
    if servers:
        overrides["servers"] = list(servers)
    if isinstance(source, Mapping):
        return loader.parse(source, overrides)
    return loader.load(fspath(source), overrides)


def schema() -> dict[str, Any]:
    """The JSON schema of job files."""
    return loader.schema()
