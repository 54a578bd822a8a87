"""The classes of a job, each with its dataset, count, prompts and first seed. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from reggen.errors import JobError, Problem
from reggen.job.dataset import ClassDataset
from reggen.job.models import ClassBlock, Job, Prompts
from reggen.planning.plan import first_seed
from reggen.training.training_set import TrainingSet


@dataclass(frozen=True, slots=True)
class JobClass:
    """One class of a job; ``seed`` is that of its first image, ``arithmetic`` explains its count in sentences."""

    dataset: ClassDataset
    prompts: Prompts
    seed: int
    arithmetic: tuple[str, ...] = ()


def classes_of(job: Job, training_set: TrainingSet | None) -> Iterator[JobClass]:
    """The classes of a job. Raises JobError for one whose share of the count is less than an image."""
    total, arithmetic = _total(job, training_set)
    blocks = job.classes or (ClassBlock(words=job.dataset.class_tokens),)
    counts = _shared(total, [Fraction(str(block.share)) for block in blocks])
    for number, (block, count) in enumerate(zip(blocks, counts, strict=True)):
        if count < 1:
            problem = Problem("class", f"{block.tokens!r} gets none of {total} images", "raise the count or its share")
            raise JobError("the job", (problem,))
        share = (f"{count:,} of {total:,} for {block.tokens!r}, by its share",) if len(blocks) > 1 else ()
        yield JobClass(
            job.dataset.of_class(block.tokens, count),
            _prompts_of(job.prompts, block),
            first_seed(job.sampling.seed, block.tokens, number),
            (*arithmetic, *share),
        )


def _prompts_of(prompts: Prompts, block: ClassBlock) -> Prompts:
    """The prompts of a class: its own where it has some. Its own positive prompt also replaces training captions."""
    own = {name: value for name in ("positive", "negative") if (value := getattr(block, name)) is not None}
    return prompts.model_copy(update={**own, **({"source": None} if "positive" in own else {})})


def _total(job: Job, training_set: TrainingSet | None) -> tuple[int, tuple[str, ...]]:
    """The number of images of all classes together, and the arithmetic in words where it was computed."""
    if job.dataset.count != "match":
        return job.dataset.count, ()
    assert training_set is not None, "the job's cross checks demand [training]"
    served, repeats = training_set.served, job.dataset.repeats
    total, several = training_set.total_of(served), len(training_set.bucketings) > 1
    sums = Counter(image.repeats for image in training_set.images if image.entry == served)
    shown = " + ".join(f"{images:,} x {times}" for times, images in sorted(sums.items(), reverse=True))
    with_reg = " with reg folders" if training_set.with_reg else ""
    where = f" of [[datasets]] {served + 1}, the largest{with_reg}" if several else ""
    words = (
        f"{shown} repeats = {total:,} training images an epoch{where}, so kohya uses {total:,} regularization images"
    )
    count = -(-total // repeats)
    if repeats > 1:
        words += f"; each counts {repeats} times, so {count:,} are made"
    return count, (words,)


def _shared(total: int, shares: Sequence[Fraction]) -> list[int]:
    """The total split by shares into integers that add up to it; the largest remainders are rounded up."""
    exact = [total * share / sum(shares) for share in shares]
    counts = [int(part) for part in exact]
    for number in sorted(range(len(exact)), key=lambda one: counts[one] - exact[one])[: total - sum(counts)]:
        counts[number] += 1
    return counts
