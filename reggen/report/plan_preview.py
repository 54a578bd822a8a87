"""The plan of a job as text: what a run would make, before anything is made."""

from __future__ import annotations

import math
from collections.abc import Iterator

from reggen.dataset.folder import Folder
from reggen.engine.requirements import mib
from reggen.job.models import ImageSize
from reggen.job.servers import Server
from reggen.planning.plan import CHECKED, Plan, Sample, choice_counts
from reggen.prepare.prepared_job import PreparedJob
from reggen.report.status import outdated_lines, read_status
from reggen.report.workflow_report import format_account, format_bindings
from reggen.wording import plural
from reggen.workflow.template import Template

_FIRST = 5  # images that are listed
_READABLE = 10**15  # larger numbers are written as powers of ten
_CHOICES = 12  # values of templates and of the matrix that are listed with their counts


def format_plan(prepared: PreparedJob, job_file: str, redo: str = "") -> str:
    """The plan of one class of a job, several lines; ``redo`` is the command that has outdated images made again.

    Raises LedgerDamaged.
    """
    return "\n".join(_lines(prepared, job_file, redo))


def _lines(prepared: PreparedJob, job_file: str, redo: str) -> Iterator[str]:
    dataset, plan = prepared.dataset, prepared.plan
    yield f"{job_file}: {plural(len(plan), 'image')}"
    yield from (f"  why          {line}" for line in prepared.arithmetic)
    yield f"  folder       {dataset.folder.absolute()}  (repeats {dataset.repeats}, class {dataset.class_tokens!r})"
    yield from _present(prepared, redo)
    yield from _images(prepared)
    yield from _variety(plan)
    yield from _prompts(prepared)
    yield f"  servers      {', '.join(map(_server, prepared.servers))}"
    needed, free = mib(prepared.bytes_needed(len(plan))), mib(Folder(dataset).free_bytes())
    yield f"  disk         about {needed} needed, {free} free"
    if prepared.guard and prepared.is_guarded:
        yield "  guard        no forbidden word in the class tokens, the prompts or the captions"
    yield from (f"  WARNING      {warning}" for warning in prepared.warnings)
    yield from (f"  prior        {note}" for note in prepared.prior)
    first = min(_FIRST, len(plan))
    yield f"  the first {first}:"
    yield from (_sample(plan[index], prepared.size) for index in range(first))


def _present(prepared: PreparedJob, redo: str) -> Iterator[str]:
    status = read_status(prepared.dataset, prepared.recipe)
    if status.done:
        yield f"  present      {status.done:,}; to be made: {status.missing:,}"
    yield from outdated_lines(status, redo)


def _images(prepared: PreparedJob) -> Iterator[str]:
    """Lines on the names, sizes, seeds and sampling settings of the images."""
    plan, template = prepared.plan, prepared.template
    first, last, ending = plan[0], plan[len(plan) - 1], prepared.dataset.format
    yield f"  names        {first.name}.{ending} ... {last.name}.{ending}"
    yield f"  size         {_size(prepared.size)}"
    yield f"  seeds        {first.seed} ... {last.seed}"
    for name in ("checkpoint", "sampler", "scheduler", "steps", "cfg", "guidance"):
        if (value := _setting(template, name)) is not None:
            yield f"  {name:<12} {value}"


def _prompts(prepared: PreparedJob) -> Iterator[str]:
    """Lines on the captions, the batch, the workflow and the negative prompt."""
    plan, template, captions = prepared.plan, prepared.template, prepared.captions
    if captions.write != "none":
        yield f"  captions     {_CAPTIONS[captions.write]}, in {plan[0].name}{captions.extension} ..."
    if prepared.batch is None:
        yield "  batch        auto: measured when the first run begins, then fixed; this plan assumes 1"
    if plan.batch > 1:
        yield f"  batch        {plan.batch} images per prompt"
    yield f"  workflow     {prepared.workflow.file if prepared.workflow else 'built in'}"
    if prepared.workflow:
        yield from (f"    {line}" for line in format_bindings(template.graph, template.bindings, template.output))
        yield from (f"    {line}" for line in format_account(template.graph, template.account))
    negative = plan[0].negative
    yield f"  negative     {negative if negative is not None else 'as in the workflow'}"


_CAPTIONS = {
    "class": "the class tokens",
    "prompt": "each image's prompt",
    "training": "the training captions without the trigger",
}


def _server(server: Server) -> str:
    return f"{server.name} (depth {server.depth})" if server.depth else server.name


def _setting(template: Template, name: str) -> str | None:
    if name in template.axes:
        return ", ".join(map(str, template.axes[name])) + "  (in turn)"
    value = template.value(name)
    return None if value is None else str(value)


def _variety(plan: Plan) -> Iterator[str]:
    """Lines on the number of different prompts, and on how often each of a few choices occurs."""
    combinations = plan.source.combinations
    if combinations > 1:
        once = ", none twice before all are used" if _none_twice(plan) else ""
        yield f"  variety      {_count(combinations)} combinations{once}"
    counts = choice_counts(plan)
    shown = sorted(counts.items())[:_CHOICES]
    yield from (f"    {times:>8,} x {what}" for what, times in shown)
    if len(counts) > _CHOICES:
        yield f"    and {len(counts) - _CHOICES:,} more choices"


def _count(count: int) -> str:
    """A number as a person can read it."""
    return f"{count:,}" if count < _READABLE else f"about 10^{math.floor(math.log10(count))}"


def _none_twice(plan: Plan) -> bool:
    """True when each round has every combination once, and no two of them are the same prompt with the same settings.

    Equal alternatives such as {a|a} are found in the first round; False where it is too long to be computed.
    """
    source, prompts = plan.source, -(-len(plan) // plan.batch)
    first = min(prompts, source.combinations)
    if first > CHECKED or not source.is_even:
        return False
    specs = (source.at(number) for number in range(first))
    return len({(spec.positive, spec.size, spec.settings) for spec in specs}) == first


def _sample(sample: Sample, size: ImageSize) -> str:
    positive = sample.positive if sample.positive is not None else "the workflow's own prompt"
    own = "  {} x {}".format(*sample.size) if sample.size and isinstance(size, str) else ""
    return f"    {sample.name}{own}  seed {sample.seed}  {positive}"


_SIZES = {
    "training": "each training image's bucket",
    "matrix": "from the matrix",
    "workflow": "as in the workflow",
}


def _size(size: ImageSize) -> str:
    return _SIZES[size] if isinstance(size, str) else "{} x {}".format(*size)
