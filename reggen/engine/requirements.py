"""Requirements of a job on its dataset: facts that last, room on the disk, the gate against duplicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from reggen.dataset.duplicates import Duplicates
from reggen.dataset.folder import Folder
from reggen.errors import StorageError
from reggen.job.dataset import Dataset
from reggen.job.models import Checks
from reggen.wording import plural


def lasting(dataset: Dataset, *, rehearsal: bool = False) -> dict[str, object]:
    """The facts that must stay the same for as long as a dataset lives."""
    return {"prefix": dataset.prefix, "format": dataset.format, "rehearsal": rehearsal}


def demand_room(folder: Folder, images: int, need: int) -> None:
    """Raise StorageError when so many images, which need about ``need`` bytes, surely cannot fit."""
    free = folder.free_bytes()
    if free < need / 2:
        what = f"about {mib(need)} are needed for {plural(images, 'image')}, and {mib(free)} are free"
        remedy = "free some room there, or name a folder on another disk (dataset.root, or --output), and run it again"
        raise StorageError(str(folder.images), "looking for room at", what, remedy=remedy)


def duplicates_of(
    checks: Checks, folder: Folder, training: Sequence[Path], stopped: Callable[[], bool]
) -> Duplicates | None:
    """The gate against duplicates, if the job wants one; ``stopped`` cuts its loading short."""
    return Duplicates(folder, checks.likeness, training, stopped) if checks.duplicates else None


def mib(size: int) -> str:
    """A size in bytes, in the unit that people would use."""
    if size < 1 << 20:
        return f"{-(-size // 1000):,} kB"
    return f"{size / (1 << 20):,.0f} MiB" if size < 10 << 30 else f"{size / (1 << 30):,.1f} GiB"
