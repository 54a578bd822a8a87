"""A job and everything it refers to, read before a run: its training set, its wildcards, its classes. Blocking.

One `PreparedJob` for each class: a job whose count is known, and its plan. The forbidden words are looked for here, so
that a run with one of them in a prompt does not start.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path, PurePath
from typing import Any

from reggen.dataset.caption_files import CAPTIONS
from reggen.dataset.ledger import LEDGER, Ledger
from reggen.errors import JobError, Problem
from reggen.geometry import Size
from reggen.job.models import SEED_LIMIT, ClassBlock, Job, Sampling, Training
from reggen.kohya.buckets import Bucketing
from reggen.planning.plan import CLASS, Plan
from reggen.planning.prompt_source import PromptSource, TrainingExample, WorkflowDefaults
from reggen.prepare.wildcard_files import WildcardFolder
from reggen.prompts import spelling
from reggen.prompts.guard import Guard, Offence
from reggen.training.training_set import TrainingSet, read_training
from reggen.workflow.template import Template, template

CHECKED = 100_000
"""Prompts of a class that the guard reads before the start; what comes after them it reads one by one."""

_UNREAD = "the workflow's own prompt is not where reggen looks for it: the guard has not read it"
_LORA = re.compile(r"lora(_name)?(_?\d+)?", re.IGNORECASE)
_A_NAME, _NEARLY_ALL, _GUESSED = 3, 0.9, 5  # letters of a trigger; the share of captions it is in; how many are named
_ORDINARY = {"the", "and", "with", "has", "for", "her", "his", "looking", "viewer", "solo", "1girl", "1boy"}
_NAMED = 10  # offences that are named
BATCH = "batch"
"""The fact under which a dataset's ledger keeps the batch that was found out."""


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """One class of a job, ready to be made.

    ``arithmetic`` says in words how count and sizes came about; ``warnings`` what a trainer would want to know;
    ``guarded`` that the guard has read what is sent, which it cannot where the workflow hides its prompt.
    """

    job: Job
    plan: Plan
    training: TrainingSet | None = None
    arithmetic: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    guard: Guard = field(default_factory=lambda: Guard(()))
    guarded: bool = True


def prepare(job: Job, job_file: str) -> tuple[PreparedJob, ...]:
    """One brief for each class of a job. Raises JobError, with the job file's name, for all that is wrong with it."""
    training = _training(job.training) if job.training else None
    try:
        return tuple(_brief(single, training, words) for single, words in _classes(job, training))
    except JobError as error:
        if error.file != "the job":
            raise
        raise type(error)(job_file, error.problems) from None


def guard_of(job: Job) -> Guard:
    """The guard of a job: its forbidden words, and the trigger of what it is made for."""
    return Guard(job.forbidden, allow=job.guard.allow, key="guard.forbid")


def bucketing_of(training: Training) -> Bucketing:
    """What the job says of the trainer's buckets."""
    return Bucketing(
        training.pixels,
        training.enable_bucket,
        training.min_bucket_reso,
        training.max_bucket_reso,
        training.bucket_reso_steps,
        training.bucket_no_upscale,
    )


def _training(training: Training) -> TrainingSet:
    return read_training(
        training.folder,
        training.config,
        bucketing=bucketing_of(training),
        caption_ending=training.caption_extension,
    )


# ---- classes and counts


def _classes(job: Job, training: TrainingSet | None) -> Iterator[tuple[Job, tuple[str, ...]]]:
    """A job for each class, with its own count, and how that came about."""
    total, words = _total(job, training)
    blocks = job.classes or (ClassBlock(words=job.dataset.class_words),)
    counts = _shared(total, [Fraction(str(block.share)) for block in blocks])
    for number, (block, count) in enumerate(zip(blocks, counts, strict=True)):
        if count < 1:
            problem = Problem("class", f"{block.words!r} gets none of {total} images", "raise the count or its share")
            raise JobError("the job", (problem,))
        dataset = job.dataset.model_copy(update={"class_words": block.words, "count": count, "matched": False})
        told = {name: value for name in ("positive", "negative") if (value := getattr(block, name)) is not None}
        prompts = job.prompts.model_copy(update={**told, **({"source": None} if "positive" in told else {})})
        split = (f"{count:,} of {total:,} for {block.words!r}, by its share",) if len(blocks) > 1 else ()
        parts = {"dataset": dataset, "prompts": prompts, "sampling": _seeded(job, number), "classes": ()}
        yield job.model_copy(update=parts), (*words, *split)


def _seeded(job: Job, number: int) -> Sampling:
    """Each class has seeds of its own: one prompt and one seed in two classes would be the same picture twice."""
    seed = job.sampling.seed
    return job.sampling.model_copy(update={"seed": None if seed is None else (seed + number * CLASS) % SEED_LIMIT})


def _total(job: Job, training: TrainingSet | None) -> tuple[int, tuple[str, ...]]:
    if not job.dataset.matched or training is None:
        return job.dataset.count, ()
    served, repeats = training.served, job.dataset.repeats
    total, several = training.total_of(served), len(training.bucketings) > 1
    sums = Counter(image.repeats for image in training.images if image.entry == served)
    shown = " + ".join(f"{images:,} x {times}" for times, images in sorted(sums.items(), reverse=True))
    where = (
        f" of [[datasets]] {served + 1}, the largest{' with reg folders' * bool(training.with_reg)}" if several else ""
    )
    words = (
        f"{shown} repeats = {total:,} training images an epoch{where}, so kohya uses {total:,} regularization images"
    )
    count = -(-total // repeats)
    if repeats > 1:
        words += f"; each counts {repeats} times, so {count:,} are made"
    return count, (words,)


def _shared(total: int, shares: Sequence[Fraction]) -> list[int]:
    """The total in whole parts, the largest remainders rounded up, so that nothing is lost."""
    exact = [total * share / sum(shares) for share in shares]
    counts = [int(part) for part in exact]
    for number in sorted(range(len(exact)), key=lambda one: counts[one] - exact[one])[: total - sum(counts)]:
        counts[number] += 1
    return counts


# ---- one class


def _brief(job: Job, training: TrainingSet | None, arithmetic: tuple[str, ...]) -> PreparedJob:
    job = _with_batch(job)
    wildcards = WildcardFolder(job.prompts.wildcards) if job.prompts.wildcards else None
    examples = _examples(training) if training and _uses_examples(job) else ()
    made_of, guard = template(job), guard_of(job)
    plan = Plan(job, PromptSource(job, examples, wildcards, WorkflowDefaults(made_of.positive, made_of.negative)))
    if problems := (*_offences(job, plan, guard), *_of_the_workflow(made_of, guard)):
        raise JobError("the job", problems)
    guarded = bool(made_of.sent or job.prompts.positives or job.prompts.source)
    warnings = (
        *(() if guarded or not guard else (_UNREAD,)),
        *_numbered_twice(job),
        *_uncaptioned(job, training),
        *_unread(job),
        *_untriggered(job, training),
        *_suspicious(made_of, job.training),
        *_of_entries(training),
    )
    return PreparedJob(job, plan, training, (*arithmetic, *_sizes(job, plan, training)), warnings, guard, guarded)


def _with_batch(job: Job) -> Job:
    """The job with the batch that its servers were found to make fastest; as it is where that is not known yet."""
    ledger = Ledger.read(job.dataset.state / LEDGER) if job.sampling.gauged else None
    if ledger is None:
        return job
    try:
        known = ledger.fact(BATCH)
    finally:
        ledger.close()
    return with_batch(job, known) if known else job


def with_batch(job: Job, batch: int) -> Job:
    """The job with a batch of so many, for good."""
    sampling = job.sampling.model_copy(update={"batch": batch, "gauged": False})
    return job.model_copy(update={"sampling": sampling})


def _uses_examples(job: Job) -> bool:
    return bool(job.prompts.source or job.sampling.size or job.captions.write == "training")


def _examples(training: TrainingSet) -> tuple[TrainingExample, ...]:
    return tuple(
        TrainingExample(image.path.name, image.caption, image.bucket, image.repeats) for image in training.images
    )


def _sizes(job: Job, plan: Plan, training: TrainingSet | None) -> Iterator[str]:
    if not job.sampling.size or training is None:
        return
    theirs: Counter[Size] = Counter()
    for image in training.images:
        theirs[image.bucket] += image.repeats
    ours = Counter(sample.size for sample in (plan[slot] for slot in range(min(len(plan), CHECKED))))
    for bucket, uses in theirs.most_common():
        yield f"bucket {bucket[0]} x {bucket[1]}: {uses:,} of {training.total:,} in training, {ours[bucket]:,} made"


# ---- what must not be


def _offences(job: Job, plan: Plan, guard: Guard) -> Iterator[Problem]:
    """Forbidden words in the class words, the prompts and the captions; the first of each kind of text."""
    if not guard:
        return
    if offence := guard.find(job.dataset.class_words):
        yield Problem("dataset.class", f"{offence}; it is forbidden")
    named, read, prompts, different = 0, set[str](), set[str | None](), _different(job, plan)
    batch = job.sampling.batch
    for slot in range(0, min(len(plan), CHECKED * batch), batch):
        if len(prompts) >= different:
            return
        sample = plan[slot]
        prompts.add(sample.positive)
        for what, text in (("prompt", sample.positive), ("caption", sample.caption)):
            if not text or text in read:
                continue
            read.add(text)
            if (offence := guard.find(text)) and named < _NAMED:
                named += 1
                example = plan.source.at(slot // batch).example if _of_a_caption(job, what) else None
                yield _offending(f"the {what} of {sample.name}", text, offence, example, guard)


def _different(job: Job, plan: Plan) -> float:
    """How many prompts there are at most, where nothing else decides what an image's texts are."""
    variety = plan.source.variety
    return math.inf if variety is None or job.captions.write == "training" else variety.combinations


def _of_a_caption(job: Job, what: str) -> bool:
    """Whether a kind of text is made of training captions."""
    return bool(job.prompts.source) or (what == "caption" and job.captions.write == "training")


def _offending(where: str, text: str, offence: Offence, example: TrainingExample | None, guard: Guard) -> Problem:
    """A forbidden word in a text; where a training caption brought it, with its image and what there is to do."""
    hint = ""
    if example and offence.forbidden in {found.forbidden for found in guard.find_all(example.caption)}:
        where += f", from the caption of {example.name}"
        hint = f"to have it taken out, put {offence.forbidden!r} into training.trigger"
    return Problem(where, f"{offence}; it is forbidden: {text[:120]!r}", hint)


def _of_the_workflow(made_of: Template, guard: Guard) -> Iterator[Problem]:
    """Forbidden words in texts of the graph that are sent as they are: no order says anything else there."""
    for binding in made_of.sent:
        text = made_of.text(binding)
        if offence := guard.find(text):
            where = f"the workflow's {made_of.label(binding.node)}.{binding.input}"
            yield Problem(where, f"{offence}; it is forbidden: {text[:120]!r}")


def _numbered_twice(job: Job) -> Iterator[str]:
    """A folder's name where class words belong: kohya's repeats would stand in it twice."""
    words = job.dataset.class_words
    if match := re.match(r"(\d+)_.", words):
        yield (
            f"the class words {words!r} begin with a number of their own, so the folder is {job.dataset.folder.name} "
            f"and kohya takes them all for class tokens; if {match[1]} are the repeats, set dataset.repeats"
        )


def _uncaptioned(job: Job, training: TrainingSet | None) -> Iterator[str]:
    """Captions that lie beside the training images and are not read, for their ending is another."""
    if training is None or not job.training or not job.training.folder:
        return  # a config says for each folder what is read
    reads = job.training.caption_extension
    files = dict.fromkeys(image.path.with_suffix(reads) for image in training.images)
    yield from (f"{file} is no file, so no caption is read there" for file in files if _is_odd(file))
    paths = [image.path for image in training.images if not image.path.with_suffix(reads).exists()]
    for other in CAPTIONS:
        if other != reads and (count := sum(path.with_suffix(other).exists() for path in paths)):
            lies = (
                f"{count:,} training images have a {other} file beside them"
                if count > 1
                else (f"a training image has a {other} file beside it")
            )
            yield f'{lies} that is not read; if the trainer reads it, set training.caption_extension = "{other}"'


def _is_odd(file: Path) -> bool:
    return file.exists() and not file.is_file()


def _unread(job: Job) -> Iterator[str]:
    """Captions that are written and not read, for the trainer is told one ending for both sets."""
    reads, written = job.read_as, job.captions.extension
    if job.training and job.training.folder and reads and reads != written:  # a config has one for each folder
        yield (
            f"the captions are written as {written}, and kohya reads both sets as {reads}: these are not read, the "
            f'class words stand in. Set captions.extension = "{reads}", or train with what `config --for kohya-toml` '
            "prints"
        )


def _untriggered(job: Job, training: TrainingSet | None) -> Iterator[str]:
    """Captions that are used as they are, since nobody said what their trigger is; with a guess at it."""
    used = job.prompts.source or job.captions.write == "training"
    if not used or training is None or (job.training and job.training.trigger):
        return
    captions = [spelling.words(spelling.folded(image.caption)) for image in training.images]
    common = Counter(word for caption in captions for word in set(caption) if len(word) >= _A_NAME)
    expected = {*spelling.words(spelling.folded(job.dataset.class_words)), *_ORDINARY}
    often = [one for one in dict.fromkeys(chain.from_iterable(captions)) if common[one] >= _NEARLY_ALL * len(captions)]
    likely = [repr(word) for word in often if word not in expected][:_GUESSED]
    guess = f"; {', '.join(likely)} in nearly every one of them may be it" if likely else ""
    yield f"training.trigger is not given, so the captions are used as they are{guess}"


def _suspicious(made_of: Template, training: Training | None) -> Iterator[str]:
    """What makes images that are not what the base model itself thinks of the class."""
    for node_id, node in made_of.graph.items():
        if _loads_a_lora(node):
            yield f"{made_of.label(node_id)} loads a LoRA: regularization images should be the base model's own"
    checkpoints = made_of.axes.get("checkpoint") or (made_of.value("checkpoint"),)
    if training and training.base:
        others = [one for one in checkpoints if one and _file_name(one) != _file_name(training.base)]
        for other in others:
            yield f"{other!r} makes the images, and {training.base!r} is trained: they should be the same"


def _loads_a_lora(node: Mapping[str, Any]) -> bool:
    """By its class, or by an input such as lora_name, lora_name_1 or lora_01 that names a file."""
    kind = str(node.get("class_type", "")).lower()
    if "lora" in kind and ("load" in kind or "stack" in kind):
        return True
    return any(
        _LORA.fullmatch(name) and isinstance(value, str) and PurePath(value).suffix
        for name, value in node["inputs"].items()
    )


def _file_name(checkpoint: str) -> str:
    """Without folders: a trainer and a server seldom name a file from the same place, nor with the same slashes."""
    return str(checkpoint).replace("\\", "/").rpartition("/")[2]


def _of_entries(training: TrainingSet | None) -> Iterator[str]:
    if training and len(training.bucketings) > 1:
        entries = ", ".join(f"{training.total_of(entry):,}" for entry in range(len(training.bucketings)))
        yield (
            f"the config has several [[datasets]], of {entries} images with their repeats: kohya fills each up by "
            "itself, with the first images of the reg folders that stand in it, and gives none to one without"
        )


def settings_of(prepared: PreparedJob, done: Collection[int] | None = None) -> Mapping[str, int]:
    """How often each value of a template and of the matrix comes up in the slots, of the first many.

    With ``done`` only these slots are counted.
    """
    counts: Counter[str] = Counter()
    batch = prepared.job.sampling.batch
    for slot in range(0, min(len(prepared.plan), CHECKED * batch), batch):
        window = range(slot, min(slot + batch, len(prepared.plan)))
        made = len(window) if done is None else sum(index in done for index in window)
        wanted = prepared.plan.source.at(slot // batch)
        if not made or not (wanted.values or wanted.settings):
            continue
        for value in wanted.values:
            counts[f"{value.place}: {value.value}"] += made
        for name, chosen in wanted.settings:
            counts[f"{name} = {chosen}"] += made
    return counts
