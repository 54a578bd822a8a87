"""A job and everything it refers to, read once before a run: training set, workflow, wildcards, classes. Blocking.

`prepare` makes one `PreparedJob` for each class, and each room takes the part it needs from it. The guard reads the
prompts here, so that no run starts with a forbidden word in one.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from reggen.dataset.ledger import Ledger
from reggen.errors import JobError, Problem
from reggen.geometry import Size, size_text
from reggen.images.check import CheckSettings
from reggen.job.dataset import ClassDataset, Dataset
from reggen.job.models import Captions, Checks, Guarding, ImageSize, Job, Limits, Prompts, Training, Workflow
from reggen.job.sampling import Sampling
from reggen.job.section import Section
from reggen.job.servers import Notify, Server
from reggen.planning.plan import CHECKED, Plan
from reggen.planning.prompt_source import PromptSettings, PromptSource, TrainingExample, WorkflowDefaults
from reggen.prepare import forbidden_words, trainer_warnings, workflow_warnings
from reggen.prepare.classes import JobClass, classes_of, served_by
from reggen.prepare.examples import training_examples
from reggen.prepare.node_classes import NodeClasses
from reggen.prepare.referred_paths import demand_paths, named_in_job
from reggen.prepare.wildcard_files import WildcardFolder
from reggen.prepare.workflow_file import read_graph
from reggen.prompts.guard import Guard
from reggen.training.served import ServedPart
from reggen.training.training_set import TrainingSet, read_training
from reggen.workflow.family_graph import FamilyFiles, family_graph, usual_files
from reggen.workflow.graph import Graph, built_in
from reggen.workflow.template import Template, build_template

BATCH = "batch"
"""The fact under which a dataset's ledger keeps the batch that was found to be fastest."""

_LATER = {"caption_prefix", "caption_suffix", "enable_wildcard", "escape", "remove", "repeats"}
_LATER |= {"validation_seed", "validation_split"}
"""Keys of [prompts] and [training] that the first recipes did not have."""
_FIRST_RESOLUTION = 512  # which these wrote where the job had none
_BYTES_PER_PIXEL = 1.6  # of a PNG of a painted picture; the true figure lies between 0.6 and 2.2
_GUESSED_SIZE: Size = (1024, 1024)  # where the workflow or something else decides on the size
_UNREAD = "the workflow's own prompt was not found, so the guard has not read it"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedJob:
    """One class of a job, with everything it refers to read.

    ``batch`` is None while it is "auto" and no run has found it out; the plan has single images until then.
    ``recipe`` is a fingerprint of everything but the seed that decides what the images show. ``is_guarded``: the guard
    has read all texts that are sent, which it cannot where the workflow hides its prompt.

    In sentences: ``arithmetic`` explains count and sizes, ``warnings`` say what spoils the images for the trainer,
    ``prior`` what moves them away from the base model's own idea of the class. ``servers`` and what follows are the
    job's own sections, the same in every class.
    """

    dataset: ClassDataset
    plan: Plan
    template: Template
    batch: int | None
    size: ImageSize
    check_settings: CheckSettings
    recipe: str
    guard: Guard
    is_guarded: bool
    training_set: TrainingSet | None
    arithmetic: tuple[str, ...]
    warnings: tuple[str, ...]
    prior: tuple[str, ...]
    servers: tuple[Server, ...]
    limits: Limits
    checks: Checks
    captions: Captions
    training: Training | None
    workflow: Workflow | None
    notify: Notify

    @property
    def caption_extension(self) -> str:
        """The --caption_extension for kohya; empty where no captions are written."""
        if self.captions.write == "none":
            return ""
        return self.training.caption_extension if self.training else self.captions.extension

    def bytes_needed(self, images: int) -> int:
        """The room on the disk for so many images, in bytes; a guess where each has a size of its own."""
        width, height = _GUESSED_SIZE if isinstance(self.size, str) else self.size
        return int(images * width * height * _BYTES_PER_PIXEL)

    def with_batch(self, batch: int) -> PreparedJob:
        """The same class, made in batches of this size."""
        return replace(self, batch=batch, plan=self.plan.with_batch(batch))


@dataclass(frozen=True, slots=True)
class _Read:
    """Everything that the classes of a job share."""

    graph: Graph
    wildcards: WildcardFolder | None
    guard: Guard
    training_set: TrainingSet | None
    served: ServedPart | None


def prepare(job: Job, job_file: str) -> tuple[PreparedJob, ...]:
    """Read everything a job refers to; one prepared job for each class.

    Raises JobError with all problems of one file: of ``job_file``, or of one that it names.
    """
    try:
        demand_paths(job)
        training_set = _training_set(job.training) if job.training else None
        served = served_by(job, training_set) if training_set else None
        if training_set and served and job.size == "training":
            _check_resolution(training_set, served)
        parts = tuple(classes_of(job, training_set, served))
        read = _Read(
            graph=_graph(job),
            wildcards=WildcardFolder(job.prompts.wildcards) if job.prompts.wildcards else None,
            guard=guard_of(job.guard, job.trigger),
            training_set=training_set,
            served=served,
        )
        return tuple(_prepared(job, part, read) for part in parts)
    except JobError as error:
        raise type(error)(named_in_job(error.file, job, job_file), error.problems) from None


def guard_of(guarding: Guarding, trigger: Sequence[str]) -> Guard:
    """The guard against a job's forbidden words and the trigger of its subject."""
    return Guard(tuple(dict.fromkeys((*guarding.forbid, *trigger))), allow=guarding.allow, key="guard.forbid")


def _training_set(training: Training) -> TrainingSet:
    return read_training(
        training.folder,
        training.config,
        bucketing=training.command_line_bucketing,
        captions=training.command_line_captions,
        validation=training.command_line_validation,
        repeats=training.repeats,
    )


def _check_resolution(training_set: TrainingSet, served: ServedPart) -> None:
    """Raise JobError where matched sizes have no resolution to match: neither the job nor the config says one."""
    if not training_set.bucketings[served.sized].is_known:
        problem = "is missing, in the config as well, and sampling.size = 'match' needs it"
        hint = "write --resolution as the trainer is given it; kohya does not start without one"
        raise JobError("the job", (Problem("training.resolution", problem, hint),))


def _graph(job: Job) -> Graph:
    if not job.workflow:
        return (
            family_graph(job.sampling.model_family, _files(job.sampling))
            if job.sampling.needs_own_graph
            else built_in()
        )
    kept_in = job.dataset.root / ".reggen" / "node_classes.json"
    classes = NodeClasses(job.servers, job.limits, str(job.workflow.file), kept_in)
    return read_graph(job.workflow.file, classes.ask)


def _files(sampling: Sampling) -> FamilyFiles:
    return FamilyFiles(
        checkpoint=sampling.checkpoint,
        model=sampling.model,
        text_encoders=sampling.text_encoders,
        vae=sampling.vae,
        weight_dtype=sampling.weight_dtype,
        clip_skip=sampling.clip_skip,
        shift=sampling.shift,
        guidance=sampling.guidance,
    )


def _prepared(job: Job, part: JobClass, read: _Read) -> PreparedJob:
    template, batch = _template(job, part.prompts, read.graph), _batch(job, part.dataset)
    source, dataset = _source(job, part, read, template), part.dataset
    negative = _negative(job, part.prompts, read.guard, template.negative)
    plan = Plan(source, dataset.count, seed=part.seed, prefix=dataset.prefix, batch=batch or 1, negative=negative)
    problems = (*forbidden_words.in_plan(plan, read.guard), *forbidden_words.in_workflow(template, read.guard))
    if problems:
        raise JobError("the job", problems)
    is_guarded = bool(template.sent or part.prompts.positives or part.prompts.source)
    return PreparedJob(
        dataset=dataset,
        plan=plan,
        template=template,
        batch=batch,
        size=job.size,
        check_settings=CheckSettings.of_job(job.checks, _one_size(job), job.limits.megapixels),
        recipe=_recipe(job, part.prompts, template, negative),
        guard=read.guard,
        is_guarded=is_guarded,
        training_set=read.training_set,
        arithmetic=(*part.arithmetic, *_buckets_made(plan, source, read)),
        warnings=(
            *(() if is_guarded or not read.guard else (_UNREAD,)),
            *_warnings(job, part, source, read, template),
            *_workflow_warnings(job, template, negative),
        ),
        prior=tuple(workflow_warnings.prior_notes(template, plan, template.negative if negative is None else negative)),
        servers=job.servers,
        limits=job.limits,
        checks=job.checks,
        captions=job.captions,
        training=job.training,
        workflow=job.workflow,
        notify=job.notify,
    )


def _template(job: Job, prompts: Prompts, graph: Graph) -> Template:
    required = ["positive"] if prompts.positives or prompts.source else []
    required += ["negative"] if prompts.negative is not None or job.guard.negative else []
    required += ["width", "height"] if job.size != "workflow" else []
    required += ["batch"] if job.sampling.batch != 1 else []
    named, source = ({}, "the built-in workflow")
    if job.workflow:
        named, source = job.workflow.bindings, str(job.workflow.file)
    template = build_template(graph, job.sampling, job.matrix.axes, required=required, named=named, source=source)
    if job.workflow or not job.sampling.family:
        return template
    return replace(template, usual_files=usual_files(template.graph, _files(job.sampling)))


def _source(job: Job, part: JobClass, read: _Read, template: Template) -> PromptSource:
    settings = PromptSettings(
        prompts=part.prompts,
        class_tokens=part.dataset.class_tokens,
        seed=part.seed,
        trigger=job.trigger,
        axes=job.matrix.axes,
        size=job.size,
        captions=job.captions.write,
    )
    examples: tuple[TrainingExample, ...] = ()
    if (
        read.training_set
        and read.served
        and (part.prompts.source or job.size == "training" or job.captions.write == "training")
    ):
        in_config = bool(job.training and job.training.config)
        examples = tuple(training_examples(read.training_set, read.served, in_config=in_config))
    return PromptSource(settings, examples, read.wildcards, WorkflowDefaults(template.positive, template.negative))


def _batch(job: Job, dataset: Dataset) -> int | None:
    """The pictures of one prompt: the job's number, or the one that its servers were found to make fastest."""
    if job.sampling.batch != "auto":
        return job.sampling.batch
    ledger = Ledger.read(dataset.state)
    if ledger is None:
        return None
    with ledger:
        known = ledger.facts.get(BATCH)
    return known or None


def _negative(job: Job, prompts: Prompts, guard: Guard, workflows: str) -> str | None:
    """The negative prompt, the job's or the workflow's, with the forbidden words where the job asks for that."""
    if not job.guard.negative or not guard:
        return prompts.negative
    return guard.extend_negative(workflows if prompts.negative is None else prompts.negative)


def _one_size(job: Job) -> Size | None:
    """The size that all images have, if the job names one."""
    return None if isinstance(job.size, str) else job.size


def _recipe(job: Job, prompts: Prompts, template: Template, negative: str | None) -> str:
    """A fingerprint of everything but the seed that decides what the images show; ledgers keep it for each image."""
    training = job.training if prompts.source or job.size == "training" else None
    facts = [
        template.graph,
        {name: str(bound) for name, bound in template.bindings.items()},
        template.output,
        dict(template.fixed),
        [section and _dumped(section) for section in (prompts, job.matrix, training)],
        negative,
        _one_size(job),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _dumped(section: Section) -> dict[str, Any]:
    """A section as the first versions wrote it into recipes: keys that came later count where they are used."""
    fields = type(section).model_fields
    dumped = section.model_dump(mode="json")
    unused = {key for key in _LATER & fields.keys() if getattr(section, key) == fields[key].default}
    kept = {key: value for key, value in dumped.items() if key not in unused}
    return kept | ({"resolution": _FIRST_RESOLUTION} if kept.get("resolution", 0) is None else {})


def _warnings(job: Job, part: JobClass, source: PromptSource, read: _Read, template: Template) -> Iterator[str]:
    yield from job.remarks
    yield from trainer_warnings.of_root(job.dataset.root)
    yield from trainer_warnings.of_folder_name(part.dataset)
    yield from trainer_warnings.of_unread_training_captions(job.training, read.training_set)
    yield from trainer_warnings.of_unread_captions(job.captions, job.training)
    yield from trainer_warnings.of_caption_affixes(job.training, read.training_set, read.guard)
    yield from trainer_warnings.of_missing_trigger(source.settings, read.training_set)
    yield from trainer_warnings.of_workflow(template, job.training)
    yield from trainer_warnings.of_image_sizes(read.training_set, read.served)
    yield from trainer_warnings.of_missing_folders(read.training_set)
    yield from trainer_warnings.of_skipped_folders(job.training)
    yield from trainer_warnings.of_silence_on_buckets(job.training, read.training_set)
    yield from trainer_warnings.of_reg_alone(read.training_set)
    yield from trainer_warnings.of_several_entries(read.training_set)


def _workflow_warnings(job: Job, template: Template, negative: str | None) -> Iterator[str]:
    yield from workflow_warnings.of_size(template, has_size=job.size != "workflow", is_checked=job.checks.size)
    yield from workflow_warnings.of_batch(template)
    yield from workflow_warnings.of_cfg(template)
    yield from workflow_warnings.of_negative(template, negative)


def _buckets_made(plan: Plan, source: PromptSource, read: _Read) -> Iterator[str]:
    """Sentences on the resolution and on the number of images in each bucket, where sizes are matched."""
    if source.settings.size != "training" or read.training_set is None or read.served is None:
        return
    bucketings = read.training_set.bucketings
    if len({bucketings[entry].resolution for entry in read.served.entries}) > 1:
        largest = size_text(bucketings[read.served.sized].resolution)
        entry = read.served.sized + 1
        yield f"sizes: of [[datasets]] {entry}, the largest at {largest}; kohya shrinks the images for the others"
    theirs: dict[Size, Fraction] = {}
    for example in source.examples:
        theirs[example.bucket] = theirs.get(example.bucket, Fraction()) + example.repeats
    ours = Counter(sample.size for sample in (plan[slot] for slot in range(min(len(plan), CHECKED))))
    total = round(sum(theirs.values()))
    for bucket, uses in sorted(theirs.items(), key=lambda one: -one[1]):
        yield f"bucket {bucket[0]} x {bucket[1]}: {round(uses):,} of {total:,} in training, {ours[bucket]:,} made"
