"""One attempt: a prompt from its post to images that are in the dataset, or to the error that stopped it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from reggen.backoff import Backoff, full_jitter
from reggen.comfy.history import ImageRef, Outcome, Success
from reggen.comfy.refusals import is_missing
from reggen.comfy.session import ServerSession
from reggen.dataset.download import Downloads
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger
from reggen.dataset.part import Part
from reggen.dataset.rows import Rejection, Row, now_utc
from reggen.dataset.storage import storage_errors
from reggen.engine.takeover import prompt_id
from reggen.engine.writer import AcceptedImage, DatasetWriter
from reggen.errors import (
    BadImage,
    ForbiddenWord,
    InvalidResponse,
    NotDownloaded,
    SampleError,
    ServerError,
    StorageError,
)
from reggen.images import check, formats
from reggen.images.check import CheckSettings, Inspection
from reggen.planning.plan import Sample
from reggen.prompts.guard import Guard
from reggen.scheduler.fleet import Completed, WorkItem
from reggen.workflow.template import Template

_SETTINGS = ("steps", "sampler", "scheduler", "cfg", "checkpoint")
_DOWNLOADS = 5  # tries for one picture: the server has made it, so it is worth some


@dataclass(frozen=True, slots=True)
class SavedImage:
    """What is now true on disk.

    ``busy`` is the server's own time for the picture, if it says; ``waited`` is from the post to the prompt's end.
    Both in seconds.
    """

    sample: Sample
    prompt_id: str
    busy: float | None
    waited: float


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What became of the samples of one prompt; ``storage`` is why those from some point on are ``unsaved``."""

    made: Completed
    receipts: tuple[SavedImage, ...]
    failures: tuple[tuple[Sample, ServerError | SampleError], ...]
    unsaved: tuple[Sample, ...] = ()
    storage: StorageError | None = None


class AttemptRunner:
    """What every attempt of a run works with. Decoding goes to ``threads``, what is kept to the scribe's own."""

    def __init__(
        self,
        *,
        run_id: uuid.UUID,
        template: Template,
        folder: Folder,
        ledger: Ledger,
        writer: DatasetWriter,
        threads: Executor,
        check_settings: CheckSettings,
        guard: Guard,
        most_bytes: int,
        recipe: str,
        versions: Mapping[str, str | None],
        pauses: Backoff,
    ) -> None:
        self.run_id, self.folder = run_id, folder
        self._ledger, self._writer, self.threads = ledger, writer, threads
        self._downloads = Downloads(folder.parts, most_bytes, threads)
        self._template, self._check_settings = template, check_settings
        self._recipe, self._versions, self._guard, self._pauses = recipe, versions, guard, pauses

    async def write(self, rows: list[Row]) -> None:
        """Write ledger rows that belong to no new file."""
        await self._writer.do(lambda: self._ledger.slots.put(rows))

    async def reject(self, rejections: list[Rejection]) -> None:
        """Note pictures that were turned away."""
        await self._writer.do(lambda: self._ledger.rejections.add(rejections))

    async def attempt(
        self, session: ServerSession, item: WorkItem, left: Callable[[], None], kept: Callable[[SavedImage], None]
    ) -> AttemptResult:
        """Make the images of one errand on one server.

        ``left`` is called as soon as the prompt has left the server, however it ended; ``kept`` for each image that
        is in the dataset, also when the attempt is cancelled in that moment. Raises ServerError or
        SampleError for all samples together; failures of single images, and of the disk, are in the result.
        """
        made = item.made
        if made is None:
            made = await self._make(session, item, left)
        else:
            left()
        request, busy = item.request, made.outcome.seconds
        busy = busy / request.batch if busy is not None else None
        pictures = made.outcome.images_of(session.name, self._template.output, request.batch)
        origin = _Origin(session.name, made, item.tries.posts + 1, busy, time.monotonic())
        receipts: list[SavedImage] = []
        failures: list[tuple[Sample, ServerError | SampleError]] = []
        for number, sample in enumerate(request.samples):
            receipt = SavedImage(sample, made.prompt_id, busy, made.waited)
            try:
                await self._keep(session, receipt, pictures[sample.position], origin, kept)
                receipts.append(receipt)
            except (ServerError, SampleError) as error:
                failures.append((sample, error))
            except StorageError as error:
                return AttemptResult(made, tuple(receipts), tuple(failures), request.samples[number:], error)
        return AttemptResult(made, tuple(receipts), tuple(failures))

    async def _make(self, session: ServerSession, item: WorkItem, left: Callable[[], None]) -> Completed:
        begun = time.monotonic()
        try:
            posted_as, ending = self._begin(session, item)
            outcome = await ending
        finally:
            left()
        if not isinstance(outcome, Success):
            raise outcome
        return Completed(posted_as, outcome, time.monotonic() - begun)

    def _begin(self, session: ServerSession, item: WorkItem) -> tuple[str, Awaitable[Outcome]]:
        """The id of the errand's prompt, and its ending: of a new one, or of one that an earlier run has posted."""
        if item.orphan:
            return item.orphan.id, session.resume(item.orphan)
        request, post = item.request, item.tries.posts
        if offence := self._guard.find(request.samples[0].positive or ""):
            raise ForbiddenWord(request.samples[0].name, str(offence))
        index, take = request.key
        posted_as = prompt_id(self.run_id, index, take, post)
        prefix = f"reggen/{self.run_id.hex[:8]}/{index // 1000:04d}/{request.samples[0].name}.{take}.{post}"
        note = {
            "index": index,
            "take": take,
            "post": post,
            "seed": request.seed,
            "batch": request.batch,
            "recipe": self._template.fingerprint(request),
        }
        return posted_as, session.execute(self._template.bind(request, prefix), posted_as, note)

    async def _keep(
        self,
        session: ServerSession,
        receipt: SavedImage,
        picture: ImageRef,
        origin: _Origin,
        kept: Callable[[SavedImage], None],
    ) -> None:
        part, finding = await self._fetch(session, receipt.sample, picture)
        row = partial(self._row, receipt.sample, part, finding, origin)
        keeping = self._writer.keep(AcceptedImage(receipt.sample, part, finding, row))

        def settled(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and not future.exception():
                kept(receipt)

        keeping.add_done_callback(settled)
        await asyncio.shield(keeping)

    async def _fetch(self, session: ServerSession, sample: Sample, picture: ImageRef) -> tuple[Part, Inspection]:
        """Download and check, again when the way here failed. The last error is raised.

        The picture is accepted while the answer is still open; every other error leaves no file.
        """
        for trial in range(1, _DOWNLOADS + 1):
            try:
                async with session.client.view(picture) as download:
                    session.hands_out(picture)
                    accept = partial(self._accept, sample, session.name, download.length)
                    return await self._downloads.save(sample.name, download, accept)
            except ServerError as error:
                if is_missing(error) and trial > 1:
                    raise NotDownloaded(session.name, "the file is not there") from error  # a cached prompt names it
                if trial == _DOWNLOADS or session.withholds(picture, error):
                    raise
            except BadImage as error:
                if not error.torn or trial > 1:
                    raise
            await asyncio.sleep(full_jitter(self._pauses.ceiling(trial)))
        raise AssertionError("unreachable")

    def _accept(self, sample: Sample, server: str, length: int | None, part: Part) -> tuple[Part, Inspection]:
        """Blocking: decode it, hold it against the demands, bring it into the dataset's format.

        ``length`` is what the server said it would send.
        """
        if part.size == 0 or (length is not None and part.size != length):
            raise InvalidResponse(server, "downloading an image", f"{part.size} bytes came of {length}")
        finding = check.inspect(part.path, sample.name, self._check_settings.for_size(sample.size))
        _demand_note(finding, sample, self._template)
        as_sent = self.folder.output_format.as_sent and not finding.is_16_bit
        return (part if as_sent else self._converted(part, sample, finding)), finding

    def _converted(self, part: Part, sample: Sample, finding: Inspection) -> Part:
        settings = {name: self._template.value(name) for name in _SETTINGS} | dict(sample.settings)
        size = finding.width, finding.height
        text = formats.parameters_text(*self._template.words(sample), sample.seed, size, settings)
        with storage_errors("converting", part.path):
            converted = formats.convert(part.path, self.folder.output_format, text)
            part.path.unlink()
        return Part.of(converted)

    def _row(self, sample: Sample, part: Part, finding: Inspection, origin: _Origin) -> Row:
        positive, negative = self._template.words(sample)
        return Row(
            idx=sample.index,
            state="done",
            take=sample.take,
            name=sample.name,
            at=now_utc(),
            positive=positive,
            negative=negative,
            seed=sample.seed,
            batch=sample.batch,
            position=sample.position,
            width=finding.width,
            height=finding.height,
            checkpoint=dict(sample.settings).get("checkpoint") or self._template.value("checkpoint"),
            recipe=self._recipe,
            server=origin.server,
            comfyui=self._versions.get(origin.server),
            prompt_id=origin.made.prompt_id,
            attempts=origin.attempts,
            waited=round(origin.made.waited, 3),
            busy=origin.busy,
            fetched=round(time.monotonic() - origin.ended, 3),
            bytes=part.size,
            sha256=part.sha256,
            likeness=finding.phash_text,
        )


def _demand_note(finding: Inspection, sample: Sample, made_of: Template) -> None:
    """A server whose file names came back serves an old picture under a new name; only the note tells.

    ComfyUI's own savers write the graph and our note together or, told so, neither.
    """
    saver = made_of.graph[made_of.output]["class_type"]
    foreign = not finding.note and finding.has_graph and saver in {"SaveImage", "PreviewImage"}
    if foreign or finding.note.get("seed", sample.seed) != sample.seed:
        raise BadImage(sample.name, "is another prompt's picture", torn=True)


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a picture comes from, for its row."""

    server: str
    made: Completed
    attempts: int
    busy: float | None
    ended: float
