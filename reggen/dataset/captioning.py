"""Captions of images that earlier runs made: those that are missing written, or all of them rewritten. Blocking.

A caption that somebody wrote by hand is never lost: it stays as it is, or it is set aside. When ``captions.write`` has
changed since the captions were written, those that differ from what the job asks for are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from reggen.dataset.caption_files import CAPTIONS, CaptionFiles
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger, open_dataset
from reggen.dataset.rows import Row
from reggen.job.dataset import Dataset
from reggen.job.models import Captions
from reggen.planning.plan import Plan
from reggen.prompts.guard import Guard
from reggen.wording import first_few

FACT = "captions"
"""The key of the ledger's fact that says what the captions of its dataset were written from."""

_NAMED = 5  # images named in a sentence


@dataclass(slots=True)
class NameSample:
    """A number of names, and the first few of them: a million names are not kept."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.first) < _NAMED:
            self.first.append(name)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        return first_few(self.first, _NAMED, self.count)


@dataclass(slots=True)
class CaptionChanges:
    """Changes to the captions of earlier images, by image; ``set_aside`` by file.

    ``unknown`` have none because their prompt is not known, or forbidden; ``differing`` say something else than the
    job asks for, and stay.
    """

    written: NameSample = field(default_factory=NameSample)
    renamed: NameSample = field(default_factory=NameSample)
    unknown: NameSample = field(default_factory=NameSample)
    differing: NameSample = field(default_factory=NameSample)
    set_aside: NameSample = field(default_factory=NameSample)

    def warnings(self, captions: Captions, rewrite: str) -> Iterator[str]:
        """Sentences for a person; ``rewrite`` is the command that writes all captions again."""
        if self.renamed:
            yield f"{self.renamed}: the caption beside it now ends with {captions.extension}, as the job wants it"
        if self.set_aside:
            yield (
                f"{self.set_aside}: not a file, but in the place of a caption, where no trainer reads it; "
                "it is kept in rejected/ in .reggen"
            )
        if self.unknown:
            yield (
                f"{self.unknown}: no caption is written, since the image was made with another prompt than the job's "
                "now, or with one that is not known or forbidden; write the caption by hand, or delete the image"
            )
        if self.differing:
            asked = "asks for none" if captions.write == "none" else f'says captions.write = "{captions.write}"'
            others = "captions are there" if captions.write == "none" else "captions say something else"
            yield (
                f"the job {asked}, and {self.differing.count:,} {others} ({self.differing}). They stay as they are; "
                f"to have them written as the job says, and the old ones set aside: {rewrite}"
            )


def supply_captions(
    folder: Folder,
    ledger: Ledger,
    plan: Plan,
    captions: Captions,
    guard: Guard,
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> CaptionChanges:
    """Write the captions that images of earlier runs lack, or have under another extension. Raises StorageError.

    A caption stays as it is, unless it is blank, which would end a training. Where the job was another when they were
    written, those that differ are counted. ``stopped`` is asked between two images and ends it.
    """
    known, write, changes, files = ledger.facts.get(FACT), captions.write, CaptionChanges(), CaptionFiles(folder)
    text_of = partial(_text, plan=plan, captions=captions, guard=guard)
    if write == "none" and known in {None, "none"}:
        return changes
    for row in ledger.slots.walk("done", stop=len(plan)):
        if stopped():
            return changes
        if write == "none":
            if files.has_text(row.name, captions.extension):
                changes.differing.add(row.name)
        elif not files.has_text(row.name, captions.extension):
            _supply(files, row, captions.extension, text_of, changes)
        elif known != write and (text := text_of(row)) and files.read(row.name, captions.extension) != text.strip():
            changes.differing.add(row.name)
    if known != write and (known is None or not changes.differing):  # without a known origin it is said once
        ledger.facts.put({FACT: write})
    return changes


def _supply(
    files: CaptionFiles, row: Row, extension: str, text_of: Callable[[Row], str | None], changes: CaptionChanges
) -> None:
    """Give an image the caption it lacks."""
    for one in CAPTIONS:
        if folder := files.clear_folder(row.name, one):
            changes.set_aside.add(folder)
    if old := next((one for one in CAPTIONS if one != extension and files.has_text(row.name, one)), None):
        files.rename(row.name, old, extension)
        changes.renamed.add(row.name)
    elif text := text_of(row):
        files.clear(row.name, text, extension)
        files.write(row.name, text, extension)
        changes.written.add(row.name)
    else:
        changes.unknown.add(row.name)


def rewrite_captions(dataset: Dataset, plan: Plan, captions: Captions, guard: Guard) -> CaptionChanges:
    """Write the captions of all finished images as the job asks. Raises DatasetLocked, and StorageError.

    Those that differ are set aside. The captions of images whose prompt is not known stay as they are.
    """
    folder, changes = Folder(dataset), CaptionChanges()
    with open_dataset(folder) as ledger:
        ledger.verify()
        for row in ledger.slots.walk("done", stop=len(plan)):
            text = _text(row, plan, captions, guard) if captions.write != "none" else ""
            _rewrite(CaptionFiles(folder), row.name, text, captions.extension, changes)
        ledger.facts.put({FACT: captions.write})
    return changes


def _rewrite(files: CaptionFiles, name: str, text: str | None, extension: str, changes: CaptionChanges) -> None:
    """Replace one caption by ``text``; remove it for "", leave it for None."""
    if text is None:
        changes.unknown.add(name)
        return
    before = files.read(name, extension)
    for file in files.clear(name, text, extension):
        changes.set_aside.add(file)
    if text and before != text.strip():
        files.write(name, text, extension)
        changes.written.add(name)


def _text(row: Row, plan: Plan, captions: Captions, guard: Guard) -> str | None:
    """The caption of an image; None where it is not known, or forbidden."""
    text = _caption_of(row, plan, captions.write)
    return text if text and text.strip() and not guard.find(text) else None


def _caption_of(row: Row, plan: Plan, write: str) -> str | None:
    """The caption of an image by its row: the plan may have had another prompt for its slot when it was made."""
    sample = plan.sample(row.idx, row.take)
    planned = plan.source.workflow.positive or None if sample.positive is None else sample.positive
    unsaid = row.positive is None and sample.positive is None  # the workflow's own, before the ledger had it
    if write == "class" or unsaid or (row.positive is not None and row.positive == planned):
        return sample.caption
    return " ".join((row.positive or "").split()) if write == "prompt" else None
