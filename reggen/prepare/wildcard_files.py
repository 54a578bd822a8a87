"""The wildcards folder: text files with a value on each line. Blocking; read before a run."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from reggen.errors import JobError, Problem
from reggen.files import MIB, text_of
from reggen.wording import nearest

_COMMENT = re.compile(r"^\s*#.*|\s#\s.*")  # a value may begin with a colour: red #f00
_KEY = "prompts.wildcards"
_MAX_ENTRIES = 100_000  # files and folders below it
_MAX_BYTES = 64 * MIB  # of a file


class WildcardFolder(Mapping[str, tuple[str, ...]]):
    """The lines of every ``.txt`` file below a folder, by its name: ``clothes/hats`` for clothes/hats.txt.

    Names are sorted, so that they do not depend on the file system. A file is read once, when its lines are asked
    for. Comments are left out: lines that begin with ``#``, and what follows a ``#``
    between spaces. So are empty lines, hidden files and folders.
    Raises JobError for a folder that does not exist or holds more than ``max_entries`` files and folders, and for a
    file that cannot be read.
    """

    def __init__(self, folder: Path, *, max_entries: int = _MAX_ENTRIES) -> None:
        try:
            if not folder.is_dir():
                raise JobError("the job", (Problem(_KEY, f"there is no folder {folder}", _near_folder(folder)),))
            self._files = dict(sorted(_files(folder, max_entries)))
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


def _files(folder: Path, max_entries: int) -> Iterator[tuple[str, Path]]:
    for number, file in enumerate(folder.rglob("*"), 1):
        if number > max_entries:
            problem = f"more than {max_entries:,} files and folders are below {folder}"
            raise JobError("the job", (Problem(_KEY, problem, "name the folder of the wildcard files themselves"),))
        inside = file.relative_to(folder)
        if inside.suffix.lower() == ".txt" and not any(part.startswith(".") for part in inside.parts):
            yield unicodedata.normalize("NFC", inside.with_suffix("").as_posix()), file


def _read(file: Path) -> tuple[str, ...]:
    try:
        lines = text_of(file, _MAX_BYTES).split("\n")
    except UnicodeDecodeError as error:
        problem = Problem(_KEY, f"{file} is not UTF-8 (byte {error.start})", "save it as UTF-8")
        raise JobError("the job", (problem,)) from None
    except OSError as error:
        raise JobError("the job", (Problem(_KEY, f"{file} cannot be read: {error.strerror}"),)) from None
    values = (_COMMENT.sub("", line).strip() for line in lines)
    return tuple(value for value in values if value)


def _near_folder(folder: Path) -> str:
    try:
        names = [entry.name for entry in folder.parent.iterdir() if entry.is_dir()]
    except OSError:
        return ""
    near = nearest(folder.name, names)
    return f"did you mean {folder.parent / near}?" if near else ""
