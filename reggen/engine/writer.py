"""Brings accepted pictures into the dataset, durably, and says so in the ledger; in one thread of its own.

Pictures that come while others are being written wait and are written together: each has its bytes flushed, and
the folder's names and the ledger's rows are flushed once for all. Nothing is told before both are on the disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from reggen.dataset.caption_files import CaptionFiles
from reggen.dataset.duplicates import Duplicates
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger
from reggen.dataset.part import Part
from reggen.dataset.rows import Row
from reggen.engine.threads import Threads
from reggen.errors import BadImage, StorageError
from reggen.images.check import Inspection
from reggen.planning.plan import Sample

_TOGETHER = 64  # pictures at most: those that come later wait for them
Answer = TypeVar("Answer")
End = StorageError | BadImage | None
"""How it ended for one picture: None where it is in the dataset."""


@dataclass(frozen=True, slots=True)
class AcceptedImage:
    """A picture that passed its checks: ``row`` is made when it is in the dataset."""

    sample: Sample
    part: Part
    finding: Inspection
    row: Callable[[], Row]


_Kept = tuple[AcceptedImage, asyncio.Future[None]]


class DatasetWriter:
    """One run's. What `keep` begins is never cut in two, however the run ends; `close` waits for it.

    ``thread`` is the one that touches the dataset; it stays open. ``moved`` is told of each file of somebody else's
    that lay in the place of an image or its caption, and was set aside.
    """

    def __init__(
        self,
        folder: Folder,
        ledger: Ledger,
        captions: str,
        thread: Threads,
        duplicates: Duplicates | None = None,
        *,
        moved: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._folder, self._ledger, self._moved = folder, ledger, moved
        self._aside: deque[str] = deque()  # filled in the thread, told from the loop
        self._captions, self._duplicates, self._thread = captions, duplicates, thread
        self._waiting: deque[_Kept] = deque()
        self._writing: asyncio.Future[list[End]] | None = None
        if duplicates:  # while the server makes its first picture; what goes wrong is told when it is needed
            self._thread.submit(duplicates.load)

    def keep(self, accepted: AcceptedImage) -> asyncio.Future[None]:
        """Bring a picture into the dataset. The future is done when it is there; it raises StorageError, BadImage.

        Whoever awaits it and may be cancelled shields it: what was accepted is kept.
        """
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((accepted, future))
        if self._writing is None:
            self._begin()
        return future

    async def do(self, work: Callable[[], Answer]) -> Answer:
        """Run something else in this thread: what writes to the ledger does."""
        return await self._thread.do(work)

    async def close(self) -> None:
        """Wait for what is being written, and until it was told; within a limit, since a disk may not answer."""
        if self._duplicates:
            self._duplicates.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._thread.limit):
                while self._writing:
                    await asyncio.wait([self._writing])
        if self._writing:
            self._thread.lost = True
            self._writing.cancel()  # nobody is told any more; the next run sees what is there

    def _begin(self) -> None:
        group = [self._waiting.popleft() for _ in range(min(_TOGETHER, len(self._waiting)))]
        pictures = [accepted for accepted, _ in group]
        self._writing = asyncio.wrap_future(self._thread.submit(self._settle, pictures))
        self._writing.add_done_callback(partial(self._end, group))

    def _end(self, group: Sequence[_Kept], written: asyncio.Future[list[End]]) -> None:
        self._writing = None
        while self._aside:
            self._moved(self._aside.popleft())
        if written.cancelled():
            return
        fault = written.exception()
        ends = [fault] * len(group) if fault else written.result()
        for (_, future), error in zip(group, ends, strict=True):
            if future.done():
                continue  # cancelled by somebody who did not shield it
            if error:
                future.set_exception(error)
            else:
                future.set_result(None)
        if self._waiting:
            self._begin()

    def _settle(self, group: Sequence[AcceptedImage]) -> list[End]:
        """Blocking, never cut in two: bytes, captions and names, then the folder, then the rows say so."""
        ends: list[End] = [None] * len(group)
        placed: dict[int, Path] = {}
        for number, accepted in enumerate(group):
            try:
                placed[number] = self._place(accepted)
            except (StorageError, BadImage) as error:
                _remove(accepted.part.path)
                ends[number] = error
        try:
            if placed:
                self._folder.flush()
                self._ledger.slots.put([group[number].row() for number in placed])
        except StorageError as error:
            for number, image in placed.items():  # without its row it is not done, and will be made again
                _remove(image)
                ends[number] = error
        return ends

    def _place(self, accepted: AcceptedImage) -> Path:
        sample, part = accepted.sample, accepted.part
        if self._duplicates:
            self._duplicates.demand_new(sample.name, sample.index, part.path, accepted.finding.phashes)
        self._folder.sync(part)
        text, files = sample.caption or "", CaptionFiles(self._folder)
        self._aside.extend(files.clear(sample.name, text, self._captions if text else ""))
        if text:
            files.write(sample.name, text, self._captions)
        if (there := self._folder.file(sample.name)).exists():  # somebody put one there meanwhile; see `place`
            self._aside.append(there.name)
        image = self._folder.place(part, sample.name)
        if self._duplicates:  # the next one of the group may be a copy of it; a file that is gone again accuses nobody
            self._duplicates.add(sample.index, accepted.finding.phash)
        return image


def _remove(path: Path) -> None:
    """As far as a disk that has just failed lets it; what stays is found by the next run."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
