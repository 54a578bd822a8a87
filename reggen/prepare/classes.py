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
from reggen.training.served import ServedPart, served_part
from reggen.training.training_set import TrainingSet
from reggen.wording import listed


@dataclass(frozen=True, slots=True)
class JobClass:
    """One class of a job; ``seed`` is that of its first image, ``arithmetic`` explains its count in sentences."""

    dataset: ClassDataset
    prompts: Prompts
    seed: int
    arithmetic: tuple[str, ...] = ()


def classes_of(job: Job, training_set: TrainingSet | None, part: ServedPart | None) -> Iterator[JobClass]:
    """The classes of a job. Raises JobError for one whose share of the count is less than an image."""
    total, arithmetic = _total(job, training_set, part)
    blocks = _blocks(job)
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


def served_by(job: Job, training_set: TrainingSet) -> ServedPart:
    """The part of a training set that the classes of a job serve."""
    return served_part(training_set, [job.dataset.of_class(block.tokens, 1).folder for block in _blocks(job)])


def _blocks(job: Job) -> tuple[ClassBlock, ...]:
    return job.classes or (ClassBlock(words=job.dataset.class_tokens),)


def _total(job: Job, training_set: TrainingSet | None, part: ServedPart | None) -> tuple[int, tuple[str, ...]]:
    """The number of images of all classes together, and the arithmetic in words where it was computed."""
    if job.dataset.count != "match":
        return job.dataset.count, ()
    assert training_set is not None, "the job's cross checks demand [training]"
    assert part is not None
    if not part.count:
        raise JobError("the job", (_unused(training_set, part),))
    words = f"{_sum(training_set, part)}, so kohya uses {part.count:,} regularization images"
    repeats = job.dataset.repeats
    count = -(-part.count // repeats)
    if repeats > 1:
        words += f"; each counts {repeats} times, so {count:,} are made"
    return count, (words, *_set_aside(training_set, part))


def _sum(training_set: TrainingSet, part: ServedPart) -> str:
    """The number of training images of the served entry in words, and what other reg folders take of it."""
    sums = Counter[int]()
    for one in training_set.train:
        if one.entry == part.counted and one.images:
            sums[one.repeats] += one.images
    shown = " + ".join(f"{images:,} x {times}" for times, images in sorted(sums.items(), reverse=True))
    several, with_reg = len(training_set.bucketings) > 1, " with reg folders" if training_set.reg else ""
    where = f" of [[datasets]] {part.counted + 1}, the largest{with_reg}" if several else ""
    words = f"{shown} repeats = {training_set.total_of(part.counted):,} training images an epoch{where}"
    for one in part.before:
        words += f", of which the reg folder {one.folder} takes {one.images * one.repeats:,} first"
    return words


def _set_aside(training_set: TrainingSet, part: ServedPart) -> Iterator[str]:
    """A sentence on the images that a validation split keeps from training."""
    split = training_set.validation[part.counted]
    if split.share > 0:
        which = "by validation_seed" if split.seed is not None else "which ones changes with each start, without a seed"
        yield f"validation_split = {split.share:g} sets the other training images aside, {which}"


def _unused(training_set: TrainingSet, part: ServedPart) -> Problem:
    if not training_set.total_of(part.counted):
        problem = "the config's [[datasets]] with the reg folders have no training images, so kohya uses no reg image"
        return Problem("dataset.count", problem, "put the reg subset beside the [[datasets.subsets]] that are trained")
    folders = listed([str(one.folder) for one in part.before])
    problem = f"the config's reg folders before this one already fill every place: {folders}"
    return Problem("dataset.count", problem, "leave them out of the config, or write a number")


def _shared(total: int, shares: Sequence[Fraction]) -> list[int]:
    """The total split by shares into integers that add up to it; the largest remainders are rounded up."""
    exact = [total * share / sum(shares) for share in shares]
    counts = [int(part) for part in exact]
    for number in sorted(range(len(exact)), key=lambda one: counts[one] - exact[one])[: total - sum(counts)]:
        counts[number] += 1
    return counts
