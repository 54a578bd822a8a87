"""The dataset's writer: brings accepted images into the dataset, durably, and says so in the ledger.

It works in one thread. Images that arrive while others are being written wait and are written together: the bytes of
each are flushed, and the folder's names and the ledger's rows are flushed once for all. An image is reported as saved
only when both are on the disk.
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

Answer = TypeVar("Answer")
End = StorageError | BadImage | None
"""The end of one image: None where it is in the dataset."""


@dataclass(frozen=True, slots=True)
class AcceptedImage:
    """An image that passed its checks. ``row`` makes its row, when it is in the dataset."""

    sample: Sample
    part: Part
    finding: Inspection
    row: Callable[[], Row]


_Kept = tuple[AcceptedImage, asyncio.Future[None]]


class DatasetWriter:
    """Writes the images of one run. What `keep` begins is completed however the run ends; `close` waits for it.

    ``thread`` is the one that touches the dataset; it stays open. ``moved`` receives the name of each file that lay in
    the place of an image or its caption, and was set aside. ``together`` is how many images are written at a time.
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
        self.together = 64
        self._folder, self._ledger, self._moved = folder, ledger, moved
        self._set_aside: deque[str] = deque()  # filled in the thread, told from the loop
        self._captions, self._duplicates, self._thread = captions, duplicates, thread
        self._waiting: deque[_Kept] = deque()
        self._writing: asyncio.Future[list[End]] | None = None
        if duplicates:  # while the server makes its first image; an error is raised when the hashes are needed
            self._thread.submit(duplicates.load)

    def keep(self, accepted: AcceptedImage) -> asyncio.Future[None]:
        """Bring an image into the dataset. The future is done when it is there; it raises StorageError or BadImage.

        Shield the future where the waiting may be cancelled: an accepted image is kept.
        """
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((accepted, future))
        if self._writing is None:
            self._begin()
        return future

    async def do(self, work: Callable[[], Answer]) -> Answer:
        """Do other work that writes to the ledger, in the same thread."""
        return await self._thread.do(work)

    async def close(self) -> None:
        """Wait until everything is written and reported; within a limit, since a disk may not answer."""
        if self._duplicates:
            self._duplicates.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._thread.limit):
                while self._writing:
                    await asyncio.wait([self._writing])
        if self._writing:
            self._thread.lost = True
            self._writing.cancel()  # it is not reported any more; the next run sees what is there

    def _begin(self) -> None:
        group = [self._waiting.popleft() for _ in range(min(self.together, len(self._waiting)))]
        images = [accepted for accepted, _ in group]
        self._writing = asyncio.wrap_future(self._thread.submit(self._write, images))
        self._writing.add_done_callback(partial(self._report, group))

    def _report(self, group: Sequence[_Kept], written: asyncio.Future[list[End]]) -> None:
        """Settle the futures of a group, and begin the next."""
        self._writing = None
        while self._set_aside:
            self._moved(self._set_aside.popleft())
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

    def _write(self, group: Sequence[AcceptedImage]) -> list[End]:
        """Write images: bytes, captions and names, then the folder, then the rows. Blocking, and never cut in two."""
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
        """Make one accepted file an image of the dataset, with its caption. Blocking; returns its path."""
        sample, part = accepted.sample, accepted.part
        if self._duplicates:
            self._duplicates.refuse_duplicate(sample.name, sample.index, part.path, accepted.finding.phashes)
        self._folder.sync(part)
        text, files = sample.caption or "", CaptionFiles(self._folder)
        self._set_aside.extend(files.clear(sample.name, text, self._captions if text else ""))
        if text:
            files.write(sample.name, text, self._captions)
        if (there := self._folder.file(sample.name)).exists():  # somebody put one there meanwhile; see `place`
            self._set_aside.append(there.name)
        image = self._folder.place(part, sample.name)
        if self._duplicates:  # the next image of the group may be a copy of it; a file that is gone again is ignored
            self._duplicates.add(sample.index, accepted.finding.phash)
        return image


def _remove(path: Path) -> None:
    """Remove a file as far as a disk that has just failed allows it; the next run finds what stays."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
