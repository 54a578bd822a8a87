"""One attempt: a prompt from its post to images that are in the dataset, or to the error that stopped it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
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
from reggen.scheduler.retry import decide_download
from reggen.scheduler.work_item import Completed, WorkItem
from reggen.workflow.template import Template

_SETTINGS = ("steps", "sampler", "scheduler", "cfg", "checkpoint")


@dataclass(frozen=True, slots=True)
class SavedImage:
    """An image that is now in the dataset, durably.

    ``busy`` is the server's own time for the image, if it says; ``waited`` is from the post to the prompt's end. Both
    in seconds.
    """

    sample: Sample
    prompt_id: str
    busy: float | None
    waited: float


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The end of a prompt that ended well.

    ``failures`` are of single images; ``storage`` is the reason that those from some point on are ``unsaved``.
    """

    made: Completed
    saved: tuple[SavedImage, ...]
    failures: tuple[tuple[Sample, ServerError | SampleError], ...]
    unsaved: tuple[Sample, ...] = ()
    storage: StorageError | None = None


@dataclass(kw_only=True)
class AttemptRunner:
    """Makes the attempts of one run. ``downloads`` saves and checks images, ``writer`` brings them into the dataset.

    ``versions`` has the ComfyUI version of each server, ``pauses`` are those between downloads of one image.
    ``templates`` are those of servers that have a family's files under other names.
    """

    run_id: uuid.UUID
    template: Template
    folder: Folder
    ledger: Ledger
    writer: DatasetWriter
    downloads: Downloads
    check_settings: CheckSettings
    guard: Guard
    recipe: str
    versions: Mapping[str, str | None]
    pauses: Backoff
    templates: Mapping[str, Template] = field(default_factory=dict)

    async def write(self, rows: list[Row]) -> None:
        """Write ledger rows that belong to no new file. Raises StorageError."""
        await self.writer.do(lambda: self.ledger.slots.put(rows))

    async def reject(self, rejections: list[Rejection]) -> None:
        """Note rejected images in the ledger. Raises StorageError."""
        await self.writer.do(lambda: self.ledger.rejections.add(rejections))

    async def attempt(
        self,
        session: ServerSession,
        item: WorkItem,
        has_left: Callable[[], None],
        on_saved: Callable[[SavedImage], None],
    ) -> AttemptResult:
        """Make the images of one work item on one server.

        ``has_left`` is called as soon as the prompt has left the server, however it ended; ``on_saved`` for each image
        that is in the dataset, also when the attempt is cancelled in that moment. Raises ServerError or SampleError for
        all samples together; failures of single images, and of the disk, are in the result.
        """
        if item.made is None:
            made = await self._make(session, item, has_left)
        else:
            made = item.made
            has_left()
        request, busy = item.request, made.outcome.seconds
        busy = busy / request.batch if busy is not None else None
        images = made.outcome.images_of(session.name, self.template.output, request.batch)
        origin = _Origin(session.name, made, item.tries.posts + 1, busy, time.monotonic())
        saved: list[SavedImage] = []
        failures: list[tuple[Sample, ServerError | SampleError]] = []
        for number, sample in enumerate(request.samples):
            image = SavedImage(sample, made.prompt_id, busy, made.waited)
            try:
                await self._save(session, image, images[sample.position], origin, on_saved)
                saved.append(image)
            except (ServerError, SampleError) as error:
                failures.append((sample, error))
            except StorageError as error:
                return AttemptResult(made, tuple(saved), tuple(failures), request.samples[number:], error)
        return AttemptResult(made, tuple(saved), tuple(failures))

    async def _make(self, session: ServerSession, item: WorkItem, has_left: Callable[[], None]) -> Completed:
        began = time.monotonic()
        try:
            posted_as, ending = self._begin(session, item)
            outcome = await ending
        finally:
            has_left()
        if not isinstance(outcome, Success):
            raise outcome
        return Completed(posted_as, outcome, time.monotonic() - began)

    def _begin(self, session: ServerSession, item: WorkItem) -> tuple[str, Awaitable[Outcome]]:
        """The id of an item's prompt, and its ending: of a new one, or of one that an earlier run has posted."""
        if item.orphan:
            return item.orphan.id, session.resume(item.orphan)
        request, post = item.request, item.tries.posts
        first = request.samples[0]
        if offence := self.guard.find(first.positive or ""):
            raise ForbiddenWord(first.name, str(offence))
        index, take = request.key
        posted_as = prompt_id(self.run_id, index, take, post)
        prefix = f"reggen/{self.run_id.hex[:8]}/{index // 1000:04d}/{first.name}.{take}.{post}"
        note = {
            "index": index,
            "take": take,
            "post": post,
            "seed": request.seed,
            "batch": request.batch,
            "recipe": self.template.fingerprint(request),
        }
        template = self.templates.get(session.name, self.template)
        return posted_as, session.execute(template.bind(request, prefix), posted_as, note)

    async def _save(
        self,
        session: ServerSession,
        image: SavedImage,
        picture: ImageRef,
        origin: _Origin,
        on_saved: Callable[[SavedImage], None],
    ) -> None:
        """Download an image, and bring it into the dataset if it passes the checks."""
        part, finding = await self._download(session, image.sample, picture)
        row = partial(self._row, image.sample, part, finding, origin)
        keeping = self.writer.keep(AcceptedImage(image.sample, part, finding, row))

        def settled(future: asyncio.Future[None]) -> None:
            if not future.cancelled() and not future.exception():
                on_saved(image)

        keeping.add_done_callback(settled)
        await asyncio.shield(keeping)

    async def _download(self, session: ServerSession, sample: Sample, picture: ImageRef) -> tuple[Part, Inspection]:
        """Download and check an image, again where `decide_download` says so. Raises the last error.

        The image is accepted while the answer is still open; an error leaves no file.
        """
        tries = 0
        while True:
            try:
                return await self._download_once(session, sample, picture)
            except (ServerError, BadImage) as error:
                tries += 1
                _demand_retry(session, picture, error, tries)
            await asyncio.sleep(full_jitter(self.pauses.ceiling(tries)))

    async def _download_once(
        self, session: ServerSession, sample: Sample, picture: ImageRef
    ) -> tuple[Part, Inspection]:
        async with session.client.view(picture) as download:
            session.picture_served(picture)
            accept = partial(self._accept, sample, session.name, download.length)
            return await self.downloads.save(sample.name, download, accept)

    def _accept(self, sample: Sample, server: str, length: int | None, part: Part) -> tuple[Part, Inspection]:
        """Decode an image, check it, and convert it to the dataset's format. Blocking.

        ``length`` is the number of bytes that the server announced. Raises InvalidResponse, BadImage, StorageError.
        """
        if part.size == 0 or (length is not None and part.size != length):
            raise InvalidResponse(server, "downloading an image", f"{part.size} of {length} bytes arrived")
        finding = check.inspect(part.path, sample.name, self.check_settings.for_size(sample.size))
        _demand_note(finding, sample, self.template)
        as_sent = self.folder.output_format.as_sent and not finding.is_16_bit
        return (part if as_sent else self._converted(part, sample, finding)), finding

    def _converted(self, part: Part, sample: Sample, finding: Inspection) -> Part:
        settings = {name: self.template.value(name) for name in _SETTINGS} | dict(sample.settings)
        size = finding.width, finding.height
        text = formats.parameters_text(*self.template.prompts_of(sample), sample.seed, size, settings)
        with storage_errors("converting", part.path):
            converted = formats.convert(part.path, self.folder.output_format, text)
            part.path.unlink()
        return Part.of(converted)

    def _row(self, sample: Sample, part: Part, finding: Inspection, origin: _Origin) -> Row:
        positive, negative = self.template.prompts_of(sample)
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
            checkpoint=dict(sample.settings).get("checkpoint") or self.template.value("checkpoint"),
            recipe=self.recipe,
            server=origin.server,
            comfyui=self.versions.get(origin.server),
            prompt_id=origin.made.prompt_id,
            attempts=origin.attempts,
            waited=round(origin.made.waited, 3),
            busy=origin.busy,
            fetched=round(time.monotonic() - origin.ended, 3),
            bytes=part.size,
            sha256=part.sha256,
            likeness=finding.phash_text,
        )


def _demand_retry(session: ServerSession, picture: ImageRef, error: ServerError | BadImage, tries: int) -> None:
    """Raise the error of a download that is not tried again."""
    if not decide_download(error, tries):
        if isinstance(error, ServerError) and is_missing(error):  # a cached prompt may name such a file
            raise NotDownloaded(session.name, "the file is not there") from error
        raise error
    if isinstance(error, ServerError) and session.picture_refused(picture, error):
        raise error


def _demand_note(finding: Inspection, sample: Sample, template: Template) -> None:
    """Raise BadImage for another prompt's image: a server whose file names come back serves old ones under new names.

    Only the note tells. ComfyUI's own savers write the graph and our note together or, if told so, neither.
    """
    saver = template.graph[template.output]["class_type"]
    is_foreign = not finding.note and finding.has_graph and saver in {"SaveImage", "PreviewImage"}
    if is_foreign or finding.note.get("seed", sample.seed) != sample.seed:
        raise BadImage(sample.name, "is another prompt's image", torn=True)


@dataclass(frozen=True, slots=True)
class _Origin:
    """The origin of an image, for its row; ``ended`` is when its prompt was known to have ended."""

    server: str
    made: Completed
    attempts: int
    busy: float | None
    ended: float
