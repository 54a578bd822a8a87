"""A reg set examined exactly as the trainer will read it: what is used, and all that is wrong with it. Blocking.

Works on any folder, made by reggen or not. What is kept of an image is its name and a hash; pixels are let go at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from reggen.dataset.recorded import FileSum, recorded
from reggen.diagnosis.exact_duplicates import ExactDuplicates
from reggen.diagnosis.findings import KINDS, Finding, Severity
from reggen.diagnosis.leftovers import beside, within
from reggen.diagnosis.model import DoctorReport, EntryReport, FolderReport, ImageUse, TrainingStop, of_use
from reggen.diagnosis.near_duplicates import NearDuplicates
from reggen.diagnosis.scope import DoctorOptions, Scope, pointed
from reggen.diagnosis.survey import Inspected, Listing, alike, looked_at, survey
from reggen.geometry import Size
from reggen.images.probe import ImageFlaw
from reggen.kohya.buckets import Bucketing, NoBucket
from reggen.kohya.reg_use import reg_uses
from reggen.training.captions import Caption, CaptionSource, read_caption

_PASTED = 50  # numbers of one command line
Tell = Callable[[int, int], None]
"""Told now and then: images done, images in all."""


def examine(
    question: DoctorOptions,
    *,
    tell: Tell | None = None,
    each: Callable[[ImageUse], None] | None = None,
    known: dict[Path, Inspected] | None = None,
) -> DoctorReport:
    """Examine a reg set.

    ``each`` gets every image as it is judged. ``known`` is what was found out before about files that did not
    change, and is filled. Raises JobError for a folder that is not there, a training set or options that kohya
    would not start with.
    """
    return _Doctor(question, pointed(question), tell, each, known).examine()


@dataclass(slots=True)
class _Place:
    """A class folder within an entry, with how often each of its images is used."""

    report: FolderReport
    uses: list[int]
    bucketing: Bucketing


class _Doctor:
    def __init__(
        self,
        question: DoctorOptions,
        at: Scope,
        tell: Tell | None,
        each: Callable[[ImageUse], None] | None,
        known: dict[Path, Inspected] | None,
    ) -> None:
        self._question, self._at, self._each, self._known = question, at, each, known
        self._tell = tell or (lambda _done, _total: None)
        self._found: dict[str, tuple[list[Path], str]] = {}
        self._findings: list[Finding] = list(at.findings)
        self._stop: TrainingStop | None = None
        self._forbidden = lru_cache(4096)(question.find_forbidden) if question.find_forbidden else None
        self._lent: set[Path] = set()

    def examine(self) -> DoctorReport:
        listings = {subset.folder: survey(subset.folder) for entry in self._at.entries for subset in entry.reg}
        entries = tuple(self._entry(number) for number in range(len(self._at.entries)))
        places = [place for number in range(len(entries)) for place in self._places(number, entries[number], listings)]
        for place in places:
            self._class_tokens(place.report)
        self._images(listings, places)
        if self._at.by_name:
            read = {folder.name: bool(listing.images) for folder, listing in listings.items()}
            for orphan in beside(self._at.root, read, self._question.expected):
                self._add(*orphan)
        for number, entry in enumerate(entries):
            self._findings.extend(of_use(entry, [place.report for place in places if place.report.entry == number]))
        for kind, (files, details) in self._found.items():
            first = f"{files[0].name}: " if details and len(files) > 1 else ""
            cure = self._redo(files) if kind == "image-changed" else ""
            self._findings.append(Finding(kind, tuple(files), first + details, cure))
        order = {kind: place for place, kind in enumerate(KINDS)}
        worst = list(Severity)
        self._findings.sort(key=lambda finding: (worst.index(finding.severity), order[finding.kind]))
        reports = tuple(place.report for place in places)
        return DoctorReport(self._at.root, entries, reports, tuple(self._findings), self._stop)

    def _redo(self, files: Sequence[Path]) -> str:
        """What to do about images that are damaged, ready to be pasted."""
        numbers = [file.stem.rpartition("_")[2].lstrip("0") for file in files]
        if not self._question.redo or len(numbers) > _PASTED:
            return ""
        return f"look at them; --fix sets all of them aside, or: {self._question.redo} {' '.join(numbers)}"

    def _entry(self, number: int) -> EntryReport:
        bucketing, training = self._at.entries[number].bucketing, self._at.training
        if training is None:
            return EntryReport(bucketing, None, {})
        buckets: Counter[Size] = Counter()
        for image in training.images:
            if image.entry == number:
                buckets[image.bucket] += image.repeats
        return EntryReport(bucketing, buckets.total(), dict(buckets))

    def _places(self, number: int, entry: EntryReport, listings: dict[Path, Listing]) -> Iterator[_Place]:
        subsets = self._at.entries[number].reg
        counts = [(len(listings[subset.folder].images), subset.repeats) for subset in subsets]
        every = reg_uses(entry.total, counts) if entry.total is not None else [[once] * count for count, once in counts]
        for subset, (images, _), times in zip(subsets, counts, every, strict=True):
            used, most, least = sum(map(bool, times)), max(times, default=0), min(times, default=0)
            unused = [image.name for image, n in zip(listings[subset.folder].images, times, strict=True) if not n]
            report = FolderReport(subset, number, images, used, sum(times), most, least, unused=unused)
            yield _Place(report, times, entry.bucketing)

    def _class_tokens(self, report: FolderReport) -> None:
        tokens = report.subset.caption_rules.class_tokens
        if report.images and self._forbidden and tokens and (word := self._forbidden(tokens)):
            self._add("forbidden", report.subset.folder, f"{word!r} in the class tokens {tokens!r}")

    def _images(self, listings: dict[Path, Listing], places: list[_Place]) -> None:
        total, done = sum(len(listing.images) for listing in listings.values()), 0
        training = [image.path for image in self._at.training.images] if self._at.training else []
        twins = ExactDuplicates.of(training)
        same = alike(listings.values(), *twins.sizes)
        likes = NearDuplicates(training, total) if self._question.alike and not self._question.quick else None
        for folder, listing in listings.items():
            known = recorded(folder)
            if known.damaged:
                self._add("ledger-damaged", known.damaged, known.why)
            here = [place for place in places if place.report.subset.folder == folder]
            sizes: dict[str, Size] = {}
            for n, looked in enumerate(self._looked(listing, same, known.sums)):
                path = folder / listing.images[n].name
                self._recorded(path, looked, known.sums.get(path.name), listing.images[n].size)
                self._picture(path, looked, used=any(place.uses[n] for place in here))
                copied = self._twin(path, looked, twins, listing.images[n].size)
                if likes and not copied:
                    self._lookalike(path, looked, likes, twins.training)
                for place in here:
                    self._judge(path, looked, place, place.uses[n])
                if listing.caches and looked.picture.kohya_size:
                    sizes[path.stem] = looked.picture.kohya_size
                done += 1
                self._tell(done, total)
            for orphan in within(listing, here[0].report.subset, sizes, frozenset(self._lent)):
                self._add(*orphan)

    def _recorded(self, path: Path, looked: Inspected, known: FileSum | None, size: int) -> None:
        if known is None or looked.picture.flaws:  # what is wrong with it is said in its own words
            return
        if looked.changed:
            self._add("image-changed", path)
        elif known.size != size:
            self._add("image-edited", path, f"{size:,} bytes, and it had {known.size:,}")

    def _looked(self, listing: Listing, same: frozenset[int], sums: Mapping[str, FileSum]) -> Iterator[Inspected]:
        known, decode = self._known, not self._question.quick
        if known is None:
            return looked_at(listing, same, decode=decode, sums=sums)
        if not all(listing.folder / image.name in known for image in listing.images):
            found = looked_at(listing, same, decode=decode, sums=sums)
            known.update((listing.folder / image.name, one) for image, one in zip(listing.images, found, strict=True))
        return (known[listing.folder / image.name] for image in listing.images)

    def _picture(self, path: Path, looked: Inspected, *, used: bool) -> None:
        for flaw in looked.picture.flaws:
            self._add(flaw, path, looked.picture.details)
            if used and flaw in {ImageFlaw.EMPTY, ImageFlaw.UNREADABLE}:
                self._stops(TrainingStop.START)
            elif used and flaw in {ImageFlaw.TRUNCATED, ImageFlaw.TOO_LARGE}:
                self._stops(TrainingStop.LOAD)

    def _twin(self, path: Path, looked: Inspected, twins: ExactDuplicates, size: int) -> bool:
        if ImageFlaw.BLACK in looked.picture.flaws:  # they are all alike, and that is said already
            return False
        if match_of := twins.seen(looked.mark, path, size):
            kind = "image-train-twin" if match_of in twins.training else "image-twin"
            self._add(kind, path, f"the same as {match_of}")
        return match_of is not None

    def _lookalike(self, path: Path, looked: Inspected, likes: NearDuplicates, training: frozenset[Path]) -> None:
        if found := likes.seen(path, looked.picture.phash):
            other, verdict = found
            self._add("image-train-like" if other in training else "image-like", path, f"it {verdict} {other}")

    def _judge(self, path: Path, looked: Inspected, place: _Place, times: int) -> None:
        report = place.report
        caption = read_caption(path, report.subset.caption_rules)
        self._caption(caption, path)
        bucket = self._bucket(path, looked.picture.kohya_size, place.bucketing, used=times > 0)
        report.sources[path.name] = caption.source
        if bucket and times:
            report.buckets[bucket] += 1
        if self._each:
            self._each(ImageUse(path, report.entry, times, caption, bucket))

    def _bucket(self, path: Path, seen: Size | None, bucketing: Bucketing, *, used: bool) -> Size | None:
        if seen is None:
            return None
        try:
            return bucketing.bucket(*seen)
        except NoBucket as error:
            self._add("image-bucket", path, str(error))
            if used:
                self._stops(TrainingStop.START if error.at_start else TrainingStop.LOAD)
            return None

    def _caption(self, caption: Caption, image: Path) -> None:
        if caption.fault:
            self._add(caption.fault, caption.file or image)
            if caption.fault.stops_training:
                self._stops(TrainingStop.START)
        if caption.source is CaptionSource.OTHER_FILE and caption.file:
            self._lent.add(caption.file)
            self._add("caption-other", image, f"it is read from {caption.file}")
        if caption.file is None and not caption.text:
            self._add("caption-none", image)
        named = caption.source is CaptionSource.CLASS_TOKENS  # for all of its images, once
        if self._forbidden and not named and (word := self._forbidden(caption.text)):
            self._add("forbidden", caption.file or image, f"{word!r} in {caption.text!r}")

    def _add(self, kind: str, path: Path, details: str = "") -> None:
        """One more of its kind; a file is named once, and the first one's details are kept."""
        files, _ = self._found.setdefault(str(kind), ([], details))
        if not files or files[-1] != path:
            files.append(path)

    def _stops(self, when: TrainingStop) -> None:
        if self._stop is not TrainingStop.START:
            self._stop = when
