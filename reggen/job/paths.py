"""Paths of files that a job reads: relative to the folder one stands in, or else to the job file's own. Blocking."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_READ = (
    *(("workflow", "file"), ("prompts", "wildcards"), ("training", "folder"), ("training", "config")),
    *(("servers", "certificate"), ("servers", "launch"), ("servers", "python")),
)
"""Tables and keys of paths that are read. dataset.root is written, so it is always relative to the current folder."""


def with_paths_found(document: Mapping[str, Any], job_file: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The tables of a job with the paths that lie only beside its file; and a sentence on each of them.

    A path that exists in the current folder, or in neither, is left as it is.
    """
    changed, remarks = dict(document), list[str]()
    for name in {table: None for table, _ in _READ}:
        tables = document.get(name)
        if isinstance(tables, list):
            changed[name] = [_table_found(name, one, job_file, remarks) for one in tables]
        elif tables is not None:
            changed[name] = _table_found(name, tables, job_file, remarks)
    return changed, tuple(remarks)


def _table_found(name: str, table: Any, job_file: Path, remarks: list[str]) -> Any:
    if not isinstance(table, Mapping):
        return table
    found = dict(_beside(name, table, job_file))
    remarks += [
        f"{name}.{key} is {path}, beside the job file: there is none in {Path.cwd()}" for key, path in found.items()
    ]
    return {**table, **found}


def _beside(name: str, table: Mapping[str, Any], job_file: Path) -> Iterator[tuple[str, str]]:
    """The keys of a table whose paths exist only beside the job file, with these paths."""
    for key in (key for table_name, key in _READ if table_name == name):
        path = table.get(key)
        if not isinstance(path, str) or not path or path.startswith("~") or "\0" in path or Path(path).is_absolute():
            continue
        beside = job_file.parent.absolute() / path
        try:
            if not Path(path).exists() and beside.exists():
                yield key, str(beside)
        except (OSError, ValueError):  # too long for a name: the models say so
            continue
