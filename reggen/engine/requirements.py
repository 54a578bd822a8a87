"""What a job asks of its dataset: the facts that last, the room, the checks, a fingerprint of the settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from reggen.dataset.duplicates import Duplicates
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger
from reggen.errors import StorageError
from reggen.images.check import CheckSettings
from reggen.job.models import Job
from reggen.planning.plan import negative
from reggen.workflow.template import Template

BYTES_PER_PIXEL = 1.6  # of a PNG of a painted picture; the true figure lies between 0.6 and 2.2


def lasting(job: Job, *, rehearsal: bool = False) -> dict[str, object]:
    """What must stay the same for as long as a dataset lives."""
    return {"prefix": job.dataset.prefix, "format": job.dataset.format, "rehearsal": rehearsal}


def demand_room(job: Job, folder: Folder, images: int) -> None:
    """Raises StorageError when so many images cannot fit."""
    need, free = bytes_needed(job, images), folder.free_bytes()
    if free < need / 2:
        what = f"{images:,} images need about {mib(need)} and {mib(free)} are free"
        remedy = "free some room there, or name a folder on another disk (dataset.root, or --output), and run it again"
        raise StorageError(str(folder.images), "looking for room at", what, remedy=remedy)


def check_settings_of(job: Job) -> CheckSettings:
    """What every image of a job must be."""
    return CheckSettings.by(job.checks, job.size, job.limits.megapixels)


def duplicates_of(
    job: Job, folder: Folder, ledger: Ledger, training: Sequence[Path], stopped: Callable[[], bool]
) -> Duplicates | None:
    """The gate against duplicates, where the job wants it; ``stopped`` ends what it reads in."""
    checks = job.checks
    return Duplicates(folder, ledger.path, checks.likeness, training, stopped) if checks.duplicates else None


def recipe(job: Job, made_of: Template) -> str:
    """A fingerprint of everything but the seed that decides what the images show."""
    bindings = {name: str(bound) for name, bound in made_of.bindings.items()}
    training = job.training if job.prompts.source or job.sampling.size else None
    asked = [job.prompts, job.matrix, training]
    words = [None if one is None else one.model_dump(mode="json") for one in asked]
    facts = [
        made_of.graph,
        bindings,
        made_of.output,
        dict(made_of.fixed),
        words,
        negative(job, made_of.negative),
        job.size,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def bytes_needed(job: Job, images: int) -> int:
    """What so many images may take on the disk; a guess where the workflow decides on the size."""
    width, height = job.size or (1024, 1024)
    return int(images * width * height * BYTES_PER_PIXEL)


def mib(size: int) -> str:
    """A size in bytes as people say it."""
    if size < 1 << 20:
        return f"{-(-size // 1000):,} kB"
    return f"{size / (1 << 20):,.0f} MiB" if size < 10 << 30 else f"{size / (1 << 30):,.1f} GiB"
