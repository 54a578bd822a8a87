"""The wildcards folder: text files with a value on each line. Blocking; read once, before a run."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from reggen.errors import JobError, Problem
from reggen.files import MIB, text_of

_KEY = "prompts.wildcards"
_MOST = 100_000  # files and folders below it
_LARGEST = 64 * MIB


class WildcardFolder(Mapping[str, tuple[str, ...]]):
    """The lines of every ``.txt`` file below a folder, by its name: ``clothes/hats`` for clothes/hats.txt.

    Names are sorted, so that they do not depend on the file system. A file is read when its lines are asked
    for, and once. Empty lines and those that begin with ``#`` are left out. Hidden files and folders are not
    looked into. Raises JobError for a folder that is not there and for a file that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        try:
            if not folder.is_dir():
                raise JobError("the job", (Problem(_KEY, f"there is no folder {folder}", _nearest(folder)),))
            self._files = dict(sorted(_files(folder)))
        except OSError as error:
            raise JobError("the job", (Problem(_KEY, f"{folder} cannot be read: {error.strerror}"),)) from None
        self._lines: dict[str, tuple[str, ...]] = {}

    def __getitem__(self, name: str) -> tuple[str, ...]:
        if name not in self._lines:
            self._lines[name] = _read(self._files[name])
        return self._lines[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, name: object) -> bool:
        return name in self._files


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for number, file in enumerate(folder.rglob("*"), 1):
        if number > _MOST:
            hint = "name the folder of the wildcard files themselves"
            raise JobError(
                "the job", (Problem(_KEY, f"more than {_MOST:,} files and folders lie below {folder}", hint),)
            )
        inside = file.relative_to(folder)
        if inside.suffix.lower() == ".txt" and not any(part.startswith(".") for part in inside.parts):
            yield unicodedata.normalize("NFC", inside.with_suffix("").as_posix()), file


def _read(file: Path) -> tuple[str, ...]:
    try:
        lines = text_of(file, _LARGEST).split("\n")
    except UnicodeDecodeError as error:
        problem = Problem(_KEY, f"{file} is not UTF-8 (byte {error.start})", "save it as UTF-8")
        raise JobError("the job", (problem,)) from None
    except OSError as error:
        raise JobError("the job", (Problem(_KEY, f"{file} cannot be read: {error.strerror}"),)) from None
    stripped = (line.strip() for line in lines)
    return tuple(line for line in stripped if line and not line.startswith("#"))


def _nearest(folder: Path) -> str:
    try:
        names = [entry.name for entry in folder.parent.iterdir() if entry.is_dir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(folder.name, names, n=1, cutoff=0.4)
    return f"did you mean {folder.parent / near[0]}?" if near else ""
