"""A reg set examined exactly as the trainer will read it: how its images are used, and what is wrong. Blocking.

Works on any folder, made by reggen or not. Of an image only its name and a hash are kept, its pixels are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from reggen.dataset.recorded import FileSum, recorded
from reggen.diagnosis.duplicates import DuplicateFinder
from reggen.diagnosis.findings import Finding, FindingLog, Observation, worst_first
from reggen.diagnosis.inspection import InspectedImage, inspect_images, shared_sizes
from reggen.diagnosis.leftovers import data_dir_leftovers, folder_leftovers
from reggen.diagnosis.listing import FolderListing, list_folder
from reggen.diagnosis.model import DoctorReport, EntryReport, FolderReport, ImageUse, TrainingStop
from reggen.diagnosis.scope import DoctorOptions, Scope, find_scope
from reggen.diagnosis.usage import entry_report, folder_reports, usage_findings
from reggen.geometry import Size
from reggen.images.probe import ImageFlaw
from reggen.kohya.buckets import Bucketing, NoBucket, enlargement
from reggen.training.captions import Caption, CaptionSource, read_caption
from reggen.training.subsets import Subset

_REDO_LIMIT = 50  # numbers of one command line
_STOPS = {
    ImageFlaw.EMPTY: TrainingStop.START,
    ImageFlaw.UNREADABLE: TrainingStop.START,
    ImageFlaw.TRUNCATED: TrainingStop.LOAD,
    ImageFlaw.TOO_LARGE: TrainingStop.LOAD,
}

Progress = Callable[[int, int], None]
"""Called now and then with the number of images done, and of all images."""


def examine(
    options: DoctorOptions,
    *,
    progress: Progress | None = None,
    on_image: Callable[[ImageUse], None] | None = None,
    known: dict[Path, InspectedImage] | None = None,
) -> DoctorReport:
    """Examine a reg set.

    ``on_image`` receives every image as each entry uses it. ``known`` are images inspected before that did not change
    since; it is filled. Raises JobError for a folder that is not there, for a training set that cannot be read, and
    for options with which kohya would not start.
    """
    scope = find_scope(options)
    listings = {subset.folder: list_folder(subset.folder) for entry in scope.entries for subset in entry.reg}
    entries = [entry_report(number, entry, scope.training) for number, entry in enumerate(scope.entries)]
    folders = [
        report
        for number, (entry, its) in enumerate(zip(scope.entries, entries, strict=True))
        for report in folder_reports(number, entry, its.total, listings)
    ]
    examination = _Examination(options, scope, entries, folders, on_image or (lambda _use: None))
    examination.check_class_tokens()
    examination.check_folders(listings, known, progress or (lambda _done, _total: None))
    examination.check_data_dir(listings)
    return examination.report()


class _Examination:
    """The checks of one set, which gather findings and the moment at which kohya would stop."""

    def __init__(
        self,
        options: DoctorOptions,
        scope: Scope,
        entries: Sequence[EntryReport],
        folders: Sequence[FolderReport],
        on_image: Callable[[ImageUse], None],
    ) -> None:
        self._options, self._scope, self._on_image = options, scope, on_image
        self._entries, self._folders = entries, folders
        self._log, self._stops = FindingLog(), set[TrainingStop]()
        self._borrowed_captions: set[Path] = set()
        self._forbidden_in = lru_cache(4096)(options.find_forbidden or (lambda _text: None))

    def check_class_tokens(self) -> None:
        """Look for forbidden words in the class tokens: any image that loses its caption is trained with them."""
        for report in self._folders:
            tokens = report.subset.caption_rules.class_tokens
            if not report.images or not tokens:
                continue
            if word := self._forbidden_in(tokens):
                self._log.add("forbidden", report.subset.folder, f"{word!r} in the class tokens {tokens!r}")
            else:
                self._log.add_all(self._forbidden_around(tokens, report.subset))

    def check_folders(
        self, listings: Mapping[Path, FolderListing], known: dict[Path, InspectedImage] | None, progress: Progress
    ) -> None:
        """Check every image of the class folders, and the other files beside them."""
        total, done = sum(len(listing.images) for listing in listings.values()), 0
        near = self._options.near_duplicates and not self._options.quick
        duplicates = DuplicateFinder(self._scope.train_images, total, near=near)
        shared = shared_sizes(listings.values(), *duplicates.training_sizes)
        for folder, listing in listings.items():
            reports = [report for report in self._folders if report.subset.folder == folder]
            ledger = recorded(folder)
            if ledger.damaged:
                self._log.add("ledger-damaged", ledger.damaged, ledger.why)
            sizes: dict[str, Size] = {}
            images = inspect_images(listing, shared, decode=not self._options.quick, sums=ledger.sums, known=known)
            for number, image in enumerate(images):
                used = any(report.uses[number] for report in reports)
                self._check_file(image, ledger.sums.get(image.path.name), used=used)
                self._log.add_all(duplicates.observe(image))
                for report in reports:
                    self._check_use(image, report, report.uses[number])
                if listing.caches and image.info.kohya_size:
                    sizes[image.path.stem] = image.info.kohya_size
                done += 1
                progress(done, total)
            self._log.add_all(folder_leftovers(listing, reports[0].subset, sizes, self._borrowed_captions))

    def check_data_dir(self, listings: Mapping[Path, FolderListing]) -> None:
        """Check the folder around the class folders, where their names carry a meaning."""
        if self._scope.by_name:
            read = {folder.name: bool(listing.images) for folder, listing in listings.items()}
            self._log.add_all(data_dir_leftovers(self._scope.root, read, self._options.expected_folders))

    def report(self) -> DoctorReport:
        """The report of all checks; call it last."""
        usage = [
            finding
            for number, entry in enumerate(self._entries)
            for finding in usage_findings(
                entry, [report for report in self._folders if report.entry == number], by_name=self._scope.by_name
            )
        ]
        findings = worst_first([*self._scope.findings, *usage, *map(self._with_redo, self._log.findings())])
        stop = min(self._stops, key=list(TrainingStop).index, default=None)
        return DoctorReport(self._scope.root, tuple(self._entries), tuple(self._folders), findings, stop)

    def _with_redo(self, finding: Finding) -> Finding:
        """The finding with a command that has damaged images made again, ready to be pasted."""
        if finding.kind != "image-changed" or not self._options.redo_command or len(finding.files) > _REDO_LIMIT:
            return finding
        numbers = " ".join(file.stem.rpartition("_")[2].lstrip("0") for file in finding.files)
        remedy = f"look at them; --fix sets all of them aside, or: {self._options.redo_command} {numbers}"
        return replace(finding, own_remedy=remedy)

    # ---- one image

    def _check_file(self, image: InspectedImage, record: FileSum | None, *, used: bool) -> None:
        """Check the bytes and the pixels of an image."""
        info = image.info
        self._log.add_all(Observation(flaw, image.path, info.details) for flaw in info.flaws)
        if used:
            self._stops.update(_STOPS[flaw] for flaw in info.flaws if flaw in _STOPS)
        if record is None or info.flaws:  # a flaw is reported in its own words, and not as a change
            return
        if image.changed:
            self._log.add("image-changed", image.path)
        elif record.size != image.size:
            self._log.add("image-edited", image.path, f"{image.size:,} bytes, and it had {record.size:,}")

    def _check_use(self, image: InspectedImage, report: FolderReport, uses: int) -> None:
        """Check an image's caption and bucket as one entry uses it, and count it in the entry's report."""
        caption = read_caption(image.path, report.subset.caption_rules)
        self._check_caption(caption, image.path, report.subset)
        bucketing = self._entries[report.entry].bucketing
        bucket = self._bucket(image, bucketing, used=uses > 0)
        report.caption_sources[image.path.name] = caption.source
        if bucket and uses:
            report.buckets[bucket] += 1
            if size := image.info.kohya_size:
                report.enlargements.append(enlargement(size, bucket))
        trained = report.subset.caption_rules.trained(caption.text)
        self._on_image(ImageUse(image.path, report.entry, uses, caption, bucket, trained))

    def _bucket(self, image: InspectedImage, bucketing: Bucketing, *, used: bool) -> Size | None:
        size = image.info.kohya_size
        if size is None or not bucketing.is_known:
            return None
        try:
            return bucketing.bucket(*size)
        except NoBucket as error:
            self._log.add("image-bucket", image.path, str(error))
            if used:
                self._stops.add(TrainingStop.START if error.at_start else TrainingStop.LOAD)
            return None

    def _check_caption(self, caption: Caption, image: Path, subset: Subset) -> None:
        if caption.fault and caption.fault.stops_training:
            self._stops.add(TrainingStop.START)
        if caption.file and caption.source is CaptionSource.OTHER_FILE:
            self._borrowed_captions.add(caption.file)
        self._log.add_all(self._caption_observations(caption, image, subset))

    def _caption_observations(self, caption: Caption, image: Path, subset: Subset) -> Iterator[Observation]:
        if caption.fault:
            yield Observation(caption.fault, caption.file or image)
        if caption.file and caption.source is CaptionSource.OTHER_FILE:
            yield Observation("caption-other", image, f"it is read from {caption.file}")
        if caption.file is None and not caption.text:
            yield Observation("caption-none", image)
        from_tokens = caption.source is CaptionSource.CLASS_TOKENS  # these are checked once for all images
        if from_tokens:
            return
        alone = replace(subset.caption_rules, prefix="", suffix="")
        for text in alone.trained(caption.text):
            if word := self._forbidden_in(text):
                yield Observation("forbidden", caption.file or image, f"{word!r} in {text!r}")
                return
        yield from self._forbidden_around(caption.text, subset)

    def _forbidden_around(self, caption: str, subset: Subset) -> Iterator[Observation]:
        """A forbidden word that only the trainer's prefix and suffix put into a caption."""
        rules = subset.caption_rules
        for text in rules.trained(caption) if rules.prefix or rules.suffix else ():
            if word := self._forbidden_in(text):
                yield Observation("forbidden-around", subset.folder, f"{word!r} in {text!r}, as it is trained")
                return
