"""Facts of the morning report, read from a dataset's ledger and folder. Blocking."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger
from reggen.dataset.rows import Rejection, Row
from reggen.geometry import size_text
from reggen.images.thumbnail import contact_sheet, effective_number, layout_of, most_alike, thumbnail
from reggen.planning.plan import choice_counts
from reggen.prepare.prepared_job import PreparedJob
from reggen.report.status import DatasetStatus, read_status
from reggen.workflow.template import Template

_PICTURES = 144  # thumbnails of images that are kept
_REJECTED = 60  # thumbnails of rejected images
_OF_TRAINING = 300  # training images whose layouts are counted
_PAIRS = 6
_BINS = 72  # of the timeline
_SETTINGS = ("checkpoint", "sampler", "scheduler", "steps", "cfg", "guidance")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture on the page: its thumbnail as JPEG, its name, and what is said of it."""

    name: str
    data: bytes
    words: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart: its label, its count, and its share of the longest, from 0 to 1."""

    label: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class ServerLine:
    """One server's night: images in each part of the time, as shares of the fullest, and in all."""

    name: str
    images: int
    parts: tuple[float, ...]
    longest_gap: timedelta


@dataclass(frozen=True, slots=True)
class MorningFacts:
    """Everything that the report shows of one class. Times are UTC."""

    status: DatasetStatus
    class_tokens: str
    pictures: tuple[Picture, ...] = ()
    rejected: tuple[Picture, ...] = ()
    rejections: tuple[Bar, ...] = ()
    given_up: tuple[tuple[str, str], ...] = ()
    choices: tuple[Bar, ...] = ()
    sizes: tuple[Bar, ...] = ()
    servers: tuple[ServerLine, ...] = ()
    begun: datetime | None = None
    ended: datetime | None = None
    layouts: float = 0.0
    training_layouts: float = 0.0
    alike: tuple[tuple[Picture, Picture, float], ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def sheet(self) -> bytes:
        """The contact sheet of the pictures that are shown, one JPEG."""
        return contact_sheet([picture.data for picture in self.pictures])


@dataclass(slots=True)
class _Gathered:
    """Facts gathered while the ledger is walked."""

    rows: list[Row] = field(default_factory=list)  # those that are shown
    sizes: Counter[str] = field(default_factory=Counter)
    times: dict[str, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    versions: set[str] = field(default_factory=set)
    done: set[int] = field(default_factory=set)


def read_facts(prepared: PreparedJob) -> MorningFacts:
    """Read the facts of one class. Raises LedgerDamaged and StorageError."""
    dataset, status = prepared.dataset, read_status(prepared.dataset)
    ledger = Ledger.read(dataset.state)
    if ledger is None:
        return MorningFacts(status, dataset.class_tokens, notes=prepared.warnings + prepared.prior)
    with ledger:
        read = _walk(ledger, len(prepared.plan), status.done)
        rejections = list(ledger.rejections.walk(stop=len(prepared.plan)))
        rehearsed = ("a rehearsal made these pictures: none is real",) if ledger.facts.get("rehearsal") else ()
    folder = Folder(dataset)
    pictures = tuple(_pictures(folder, read.rows))
    layouts = [layout_of(picture.data) for picture in pictures]
    all_times = sorted(at for times in read.times.values() for at in times)
    return MorningFacts(
        status=status,
        class_tokens=dataset.class_tokens,
        pictures=pictures,
        rejected=tuple(_rejected(folder, rejections)),
        rejections=_bars(Counter(one.reason for one in rejections)),
        given_up=tuple((name, reason or "") for name, reason in status.given_up.items()),
        choices=_bars(Counter(dict(choice_counts(prepared.plan, read.done)))),
        sizes=_bars(read.sizes),
        servers=tuple(_server_lines(read.times)),
        begun=all_times[0] if all_times else None,
        ended=all_times[-1] if all_times else None,
        layouts=effective_number(layouts),
        training_layouts=_training_layouts(prepared),
        alike=tuple((pictures[one], pictures[other], share) for one, other, share in most_alike(layouts, _PAIRS)),
        settings=tuple(_settings(prepared, read)),
        notes=rehearsed + prepared.warnings + prepared.prior,
    )


def _walk(ledger: Ledger, count: int, done: int) -> _Gathered:
    """Walk the finished slots; every n-th is shown, and the first of each size."""
    read, every = _Gathered(), max(1, -(-done // _PICTURES))
    for number, row in enumerate(ledger.slots.walk("done", stop=count)):
        size = size_text((row.width, row.height)) if row.width and row.height else "unknown"
        if number % every == 0 or size not in read.sizes:
            read.rows.append(row)
        read.sizes[size] += 1
        read.done.add(row.idx)
        if row.server and (at := _time(row.at)):
            read.times[row.server].append(at)
        if row.comfyui:
            read.versions.add(row.comfyui)
    return read


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _pictures(folder: Folder, rows: Sequence[Row]) -> Iterator[Picture]:
    for row in rows[: 2 * _PICTURES]:
        if data := thumbnail(folder.file(row.name)):
            prompt = row.positive or "the workflow's own prompt"
            yield Picture(row.name, data, f"seed {row.seed}; {prompt}")


def _rejected(folder: Folder, rejections: Sequence[Rejection]) -> Iterator[Picture]:
    """The pictures that were set aside, with the reason that their slot's newest rejection has."""
    if not folder.rejected.is_dir():
        return
    reasons = {one.idx: one.reason for one in rejections}
    for file in sorted(folder.rejected.iterdir())[:_REJECTED]:
        if data := thumbnail(file):
            digits = "".join(letter for letter in file.stem.partition("-")[0] if letter.isdigit())
            yield Picture(file.name, data, reasons.get(int(digits) - 1, "set aside") if digits else "set aside")


def _bars(counts: Counter[str], most: int = 24) -> tuple[Bar, ...]:
    common = counts.most_common(most)
    return tuple(Bar(label, count, count / common[0][1]) for label, count in common)


def _server_lines(times: dict[str, list[datetime]]) -> Iterator[ServerLine]:
    everything = [at for server in times.values() for at in server]
    if not everything:
        return
    first, span = min(everything), max((max(everything) - min(everything)).total_seconds(), 1.0)
    parts = {
        name: Counter(min(int((at - first).total_seconds() / span * _BINS), _BINS - 1) for at in server)
        for name, server in times.items()
    }
    fullest = max(count for counted in parts.values() for count in counted.values())
    for name, server in sorted(times.items()):
        ordered = sorted(server)
        gaps = [later - earlier for earlier, later in pairwise(ordered)]
        shares = tuple(parts[name][number] / fullest for number in range(_BINS))
        yield ServerLine(name, len(server), shares, max(gaps, default=timedelta()))


def _training_layouts(prepared: PreparedJob) -> float:
    if prepared.training_set is None:
        return 0.0
    images = prepared.training_set.images
    chosen = images[:: max(1, -(-len(images) // _OF_TRAINING))]
    return effective_number([layout_of(data) for image in chosen if (data := thumbnail(Path(image.path)))])


def _settings(prepared: PreparedJob, read: _Gathered) -> Iterator[tuple[str, str]]:
    """Names and values for a model card."""
    template: Template = prepared.template
    for name in _SETTINGS:
        values = template.axes.get(name) or (template.value(name),)
        if any(value is not None for value in values):
            yield name, ", ".join(map(str, values))
    first, last = prepared.plan[0], prepared.plan[len(prepared.plan) - 1]
    yield "seeds", f"{first.seed} to {last.seed}"
    yield "negative prompt", first.negative if first.negative is not None else "as in the workflow"
    yield "workflow", prepared.workflow.file.name if prepared.workflow else "built in"
    if read.versions:
        yield "ComfyUI", ", ".join(sorted(read.versions))
    yield "reggen", version("reggen")
