"""The captions beside the images: written with each image, and for those of earlier runs that lack one. Blocking.

What somebody wrote by hand is never lost: it stays as it is, or it is set aside. Which of the captions that are there
say something else than the job asks for is looked at when ``captions.write`` is not what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from reggen.dataset.caption_files import CAPTIONS, CaptionFiles
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import LEDGER, Ledger, Row
from reggen.dataset.lock import locked
from reggen.dataset.reconcile import demand_filled
from reggen.job.dataset import Dataset
from reggen.job.models import Captions
from reggen.planning.plan import Plan
from reggen.prompts.guard import Guard

FACT = "captions"
"""The fact under which a ledger keeps what the captions of its dataset were written from."""

_NAMED = 5  # images that are named in a sentence


@dataclass(slots=True)
class NameSample:
    """How many, and the first few: a million names are not kept."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < _NAMED:
            self.first.append(name)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        more = f" and {self.count - len(self.first):,} more" if self.count > len(self.first) else ""
        return ", ".join(self.first) + more


@dataclass(slots=True)
class Captioned:
    """What became of the captions of images of earlier runs."""

    written: NameSample = field(default_factory=NameSample)
    moved: NameSample = field(default_factory=NameSample)
    left: NameSample = field(default_factory=NameSample)
    differing: NameSample = field(default_factory=NameSample)
    aside: NameSample = field(default_factory=NameSample)  # files

    def words(self, captions: Captions, rewrite: str) -> Iterator[str]:
        """What there is to say about it; ``rewrite`` is the command that writes them anew."""
        if self.moved:
            yield f"{self.moved}: the caption beside it now ends with {captions.extension}, as the job wants it"
        if self.aside:
            yield (
                f"{self.aside}: no file, but it lay where a caption belongs, and no trainer reads it; "
                "it is kept in rejected/ in .reggen"
            )
        if self.left:
            yield (
                f"{self.left}: no caption is written, for it was made with another prompt than today's, "
                "or one that is not known or forbidden; write it by hand, or delete the image"
            )
        if self.differing:
            asked = "asks for none" if captions.write == "none" else f'says captions.write = "{captions.write}"'
            others = "captions lie there" if captions.write == "none" else "captions say something else"
            yield (
                f"the job {asked}, and {self.differing.count:,} {others} ({self.differing}). They stay as they are; "
                f"to have them written as the job says, and the old ones set aside: {rewrite}"
            )


def caption(
    folder: Folder,
    ledger: Ledger,
    plan: Plan,
    captions: Captions,
    guard: Guard,
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> Captioned:
    """Write the captions that images of earlier runs lack, or have under another ending. Raises StorageError.

    A caption that is there stays as it is, unless it is empty, which would end a training. Where the job was another
    when they were written, those that say something else are counted. ``stopped`` ends it between two images.
    """
    known, write, done, files = ledger.fact(FACT), captions.write, Captioned(), CaptionFiles(folder)
    wanted = partial(_wanted, plan=plan, captions=captions, guard=guard)
    if write == "none" and known in {None, "none"}:
        return done
    for row in ledger.walk("done", stop=len(plan)):
        if stopped():
            return done
        if write == "none":
            if files.is_there(row.name, captions.extension):
                done.differing.add(row.name)
        elif not files.is_there(row.name, captions.extension):
            _supply(files, row, captions.extension, wanted, done)
        elif known != write and (text := wanted(row)) and files.text(row.name, captions.extension) != text.strip():
            done.differing.add(row.name)
    if known != write and (known is None or not done.differing):  # of what was never known it is said once
        ledger.keep_fact(FACT, write)
    return done


def _supply(
    files: CaptionFiles, row: Row, extension: str, wanted: Callable[[Row], str | None], done: Captioned
) -> None:
    """Give an image the caption it lacks."""
    for one in CAPTIONS:
        if folder := files.clear_folder(row.name, one):
            done.aside.add(folder)
    if old := next((one for one in CAPTIONS if one != extension and files.is_there(row.name, one)), None):
        files.move(row.name, old, extension)
        done.moved.add(row.name)
    elif text := wanted(row):
        files.clear(row.name, text, extension)
        files.write(row.name, text, extension)
        done.written.add(row.name)
    else:
        done.left.add(row.name)


def rewrite(dataset: Dataset, plan: Plan, captions: Captions, guard: Guard) -> Captioned:
    """Have the captions of all finished images say what the job asks for. Raises DatasetLocked, and StorageError.

    What said something else is set aside; what the ledger does not know is left as it is.
    """
    folder, done = Folder(dataset), Captioned()
    files, extension = CaptionFiles(folder), captions.extension
    with locked(folder):
        folder.prepare()
        demand_filled(folder)
        with Ledger.open(folder.state / LEDGER) as ledger:
            ledger.verify()
            for row in ledger.walk("done", stop=len(plan)):
                text = _wanted(row, plan, captions, guard) if captions.write != "none" else ""
                if text is None:
                    done.left.add(row.name)
                    continue
                was = files.text(row.name, extension)
                for name in files.clear(row.name, text, extension):
                    done.aside.add(name)
                if text and was != text.strip():
                    files.write(row.name, text, extension)
                    done.written.add(row.name)
            ledger.keep_fact(FACT, captions.write)
        folder.delete_parts()
    return done


def _wanted(row: Row, plan: Plan, captions: Captions, guard: Guard) -> str | None:
    """What an image's caption is; None where nobody knows it, or it may not be."""
    text = _caption_of(row, plan, captions.write)
    return text if text and text.strip() and not guard.find(text) else None


def _caption_of(row: Row, plan: Plan, write: str) -> str | None:
    """What an image's caption is by its row: the plan of today may have another prompt for its slot."""
    sample = plan.sample(row.idx, row.take)
    todays = plan.source.own.positive or None if sample.positive is None else sample.positive
    unsaid = row.positive is None and sample.positive is None  # the workflow's own, before the ledger had it
    if write == "class" or unsaid or (row.positive is not None and row.positive == todays):
        return sample.caption
    return " ".join((row.positive or "").split()) if write == "prompt" else None
