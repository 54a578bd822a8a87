"""A model of a disk under power cuts, fed with the real effects of a run.

`Recorder` watches one image folder while the real code fills it: every fsync, rename and removal, and every row
that the ledger has committed. `states_after_cut` then gives, for any moment, all that a cut may leave of the folder:

- a name that was made or removed since the folder's last fsync is there or not, each by itself;
- bytes that were not fsynced are there, missing, zeroed or cut off, whatever became of their name;
- a row whose commit has returned is there: that is what synchronous=FULL means, which has a test of its own.

The folder itself is taken to be there: it is older than the images in it.
"""

from __future__ import annotations

import itertools
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from reggen.dataset.folder import Folder
from reggen.dataset.rows import Row
from reggen.dataset.slot_table import SlotTable


@dataclass(frozen=True, slots=True)
class Moment:
    """The disk after one effect: the state that programs see, and the part of it that is durable."""

    after: str
    names: Mapping[str, int]
    contents: Mapping[int, bytes]
    durable_names: Mapping[str, int]
    durable_contents: Mapping[int, bytes]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class StateAfterCut:
    """The state after one cut: its description, the files of the image folder, and the rows of the ledger."""

    cut: str
    files: Mapping[str, bytes]
    rows: tuple[Row, ...]


class Recorder:
    """Watches a folder being filled. Files are held open, so that no inode number is used twice."""

    def __init__(self, folder: Folder, stack: ExitStack) -> None:
        self.moments: list[Moment] = []
        self._folder, self._stack = folder, stack
        self._handles: dict[int, BinaryIO] = {}
        self._durable_names: dict[str, int] = {}
        self._durable_contents: dict[int, bytes] = {}
        self._rows: list[Row] = []
        self._lock = threading.RLock()

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Record a moment after every effect, until the patch is undone."""
        for name in ("replace", "rename", "unlink", "remove"):
            patch.setattr(os, name, self._watched(name, getattr(os, name)))
        patch.setattr(os, "fsync", self._fsync(os.fsync))
        patch.setattr(SlotTable, "put", self._put(SlotTable.put))

    def _watched(self, what: str, effect: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*paths: Any, **options: Any) -> Any:
            with self._lock:
                result = effect(*paths, **options)
                self._record(f"{what} of {' to '.join(Path(path).name for path in paths)}")
                return result

        return watched

    def _fsync(self, effect: Callable[[int], None]) -> Callable[[int], None]:
        def watched(handle: int) -> None:
            with self._lock:
                effect(handle)
                names, contents = self._seen()
                facts = os.fstat(handle)
                if not stat.S_ISDIR(facts.st_mode):
                    self._durable_contents[facts.st_ino] = contents.get(facts.st_ino, b"")
                elif facts.st_ino == self._folder.images.stat().st_ino:
                    self._durable_names = names
                self._record("fsync of the folder" if stat.S_ISDIR(facts.st_mode) else "fsync of a file")

        return watched

    def _put(self, effect: Callable[[SlotTable, Iterable[Row]], None]) -> Callable[[SlotTable, Iterable[Row]], None]:
        def watched(slots: SlotTable, rows: Iterable[Row]) -> None:
            with self._lock:
                rows = list(rows)
                effect(slots, rows)
                self._rows += rows
                self._record(f"the row of {', '.join(row.name for row in rows) or 'nothing'}")

        return watched

    def _record(self, after: str) -> None:
        names, contents = self._seen()
        moment = Moment(
            after, names, contents, dict(self._durable_names), dict(self._durable_contents), tuple(self._rows)
        )
        self.moments.append(moment)

    def _seen(self) -> tuple[dict[str, int], dict[int, bytes]]:
        names = {path.name: self._held(path) for path in _files(self._folder.images)}
        for path in _files(self._folder.parts):
            self._held(path)
        return names, {number: _content(handle) for number, handle in self._handles.items()}

    def _held(self, path: Path) -> int:
        """The inode number of a file, which is kept open from here on."""
        with suppress(FileNotFoundError):
            number = path.stat().st_ino
            if number not in self._handles:
                self._handles[number] = self._stack.enter_context(path.open("rb"))
            return number
        return 0


def states_after_cut(moment: Moment) -> Iterator[StateAfterCut]:
    """Every state that a cut at this moment may leave."""
    open_names = [
        name
        for name in sorted({*moment.names, *moment.durable_names})
        if moment.names.get(name) != moment.durable_names.get(name)
    ]
    for fates in itertools.product((True, False), repeat=len(open_names)):
        names, words = dict(moment.durable_names), []
        for name, reached in zip(open_names, fates, strict=True):
            words += [] if reached else [f"what became of the name {name} is lost"]
            names.pop(name, None)
            if number := (moment.names if reached else moment.durable_names).get(name):
                names[name] = number
        contents = [[(name, *loss) for loss in _losses(moment, number)] for name, number in names.items()]
        for chosen in itertools.product(*contents):
            lost = [*words, *(f"{name} {loss}" for name, loss, _ in chosen if loss)]
            cut = f"cut after {moment.after}" + (f"; {', '.join(lost)}" if lost else "")
            yield StateAfterCut(cut, {name: data for name, _, data in chosen}, moment.rows)


def _losses(moment: Moment, number: int) -> Iterator[tuple[str, bytes]]:
    """The possible losses of a file: a description, empty for none, and the bytes that are left."""
    data = moment.contents[number]
    yield "", data
    if moment.durable_contents.get(number) == data:
        return
    yield "is empty", b""
    yield "is zeroed", bytes(len(data))
    yield "is cut off", data[: len(data) // 2]
    yield "has a zeroed end", data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _content(handle: BinaryIO) -> bytes:
    handle.seek(0)
    return handle.read()
