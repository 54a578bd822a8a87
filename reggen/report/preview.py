"""Before anything is made: the plan in words, and the preflight's findings."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence

from reggen.dataset.folder import Folder
from reggen.engine.preflight import ServerCheck
from reggen.engine.requirements import lasting, mib
from reggen.job.dataset import Dataset
from reggen.job.models import ImageSize
from reggen.job.servers import Server
from reggen.planning.plan import CHECKED, Plan, Sample, choice_counts
from reggen.prepare.prepared_job import PreparedJob
from reggen.report.status import conflicts, state_of
from reggen.workflow.template import Template

_SHOWN = 5
_READABLE = 10**15
_CHOICES = 12  # values of templates and of the matrix that are counted in words


def preview(prepared: PreparedJob, job_file: str) -> str:
    """What one class of a job would be. Raises WorkflowError."""
    return "\n".join(_preview(prepared, job_file))


def _preview(prepared: PreparedJob, job_file: str) -> Iterator[str]:
    dataset, plan, made_of = prepared.dataset, prepared.plan, prepared.template
    first, last = plan[0], plan[len(plan) - 1]
    yield f"{job_file}: {len(plan):,} images"
    yield from (f"  why          {line}" for line in prepared.arithmetic)
    yield f"  folder       {dataset.folder.absolute()}  (repeats {dataset.repeats}, class {dataset.class_tokens!r})"
    state = state_of(dataset)
    if state["done"]:
        yield f"  there        {state['done']:,}; to be made: {state['missing']:,}"
    yield f"  names        {first.name}.{dataset.format} ... {last.name}.{dataset.format}"
    yield f"  size         {_size(prepared.size)}"
    yield f"  seeds        {first.seed} ... {last.seed}"
    for name in ("checkpoint", "sampler", "scheduler", "steps", "cfg"):
        if (value := _setting(made_of, name)) is not None:
            yield f"  {name:<12} {value}"
    yield from _variety(plan)
    if prepared.captions.write != "none":
        yield f"  captions     {_CAPTIONS[prepared.captions.write]}, in {first.name}{prepared.captions.extension} ..."
    if prepared.batch is None:
        yield "  batch        auto: found out when the first run begins, and kept; until then as if it were 1"
    if plan.batch > 1:
        yield f"  batch        {plan.batch} images for each prompt"
    yield f"  workflow     {prepared.workflow.file if prepared.workflow else 'built in'}"
    if prepared.workflow:
        yield from (f"    {name:<10} -> {_bound(made_of, name)}" for name in made_of.bindings)
        yield f"    images     <- {made_of.label(made_of.output)}"
    yield f"  servers      {', '.join(map(_server, prepared.servers))}"
    yield f"  disk         about {mib(prepared.bytes_needed(len(plan)))}, {mib(Folder(dataset).free_bytes())} free"
    yield f"  negative     {first.negative if first.negative is not None else 'as the workflow has it'}"
    if prepared.guard and prepared.is_guarded:
        yield "  guard        no forbidden word in the class tokens, the prompts or the captions"
    yield from (f"  WARNING      {warning}" for warning in prepared.warnings)
    yield f"  the first {min(_SHOWN, len(plan))}:"
    yield from (_sample(plan[index], prepared.size) for index in range(min(_SHOWN, len(plan))))


_CAPTIONS = {
    "class": "the class tokens",
    "prompt": "each image's prompt",
    "training": "the training captions without the trigger",
}


def _server(server: Server) -> str:
    return f"{server.name} (depth {server.depth})" if server.depth else server.name


def _setting(made_of: Template, name: str) -> str | None:
    if name in made_of.axes:
        return ", ".join(map(str, made_of.axes[name])) + "  (in turn)"
    value = made_of.value(name)
    return None if value is None else str(value)


def _variety(plan: Plan) -> Iterator[str]:
    """How many different prompts there are, and how often each of a few choices comes."""
    combinations = plan.source.combinations
    if combinations > 1:
        once = ", none twice before all were used" if _none_twice(plan) else ""
        yield f"  variety      {_many(combinations)} combinations{once}"
    counts = choice_counts(plan)
    shown = sorted(counts.items())[:_CHOICES]
    yield from (f"    {times:>8,} x {what}" for what, times in shown)
    if len(counts) > _CHOICES:
        yield f"    and {len(counts) - _CHOICES:,} more choices"


def _many(count: int) -> str:
    """A number that a person can still read."""
    return f"{count:,}" if count < _READABLE else f"about 10^{math.floor(math.log10(count))}"


def _none_twice(plan: Plan) -> bool:
    """Whether each round brings every combination once, in other words or settings each time.

    Equal alternatives such as {a|a} are found by looking at the first round; False where it is too long for that.
    """
    source, prompts = plan.source, -(-len(plan) // plan.batch)
    first = min(prompts, source.combinations)
    if first > CHECKED or not source.even:
        return False
    asked = (source.at(number) for number in range(first))
    return len({(wanted.positive, wanted.size, wanted.settings) for wanted in asked}) == first


def _sample(sample: Sample, size: ImageSize) -> str:
    positive = sample.positive if sample.positive is not None else "the workflow's own prompt"
    own = "  {} x {}".format(*sample.size) if sample.size and isinstance(size, str) else ""
    return f"    {sample.name}{own}  seed {sample.seed}  {positive}"


def _bound(made_of: Template, name: str) -> str:
    return ", ".join(f"{made_of.label(bound.node)}.{bound.input}" for bound in made_of.bindings[name])


_SIZES = {
    "training": "each training image's bucket",
    "matrix": "from the matrix",
    "workflow": "as the workflow has it",
}


def _size(size: ImageSize) -> str:
    return _SIZES[size] if isinstance(size, str) else "{} x {}".format(*size)


def checked(
    prepared_jobs: Sequence[PreparedJob], job_file: str, examined: Sequence[ServerCheck], unstartable: Mapping[str, str]
) -> tuple[str, bool]:
    """The preflight's findings in words, and whether nothing stands in the way here.

    ``unstartable`` says of servers that are to be started here why they cannot be.
    """
    first = prepared_jobs[0]
    need = sum(one.bytes_needed(len(one.plan)) for one in prepared_jobs)
    free = Folder(first.dataset).free_bytes()
    room = free >= need / 2
    problems = [problem for prepared in prepared_jobs for problem in standing_in_the_way(prepared.dataset)]
    lines = [f"{job_file}: the job file and its workflow are in order"]
    lines.append(f"  disk         {mib(free)} free, about {mib(need)} needed" + ("" if room else ": TOO LITTLE"))
    lines.extend(f"  WARNING      {warning}" for warning in first.warnings)
    for one in examined:
        launch = next((server.launch for server in first.servers if server.name == one.server), None)
        why_not = unstartable.get(one.server)
        if why_not and len(examined) == 1:
            problems.append(why_not)
        verdict = f"not running; `run` starts it in {launch}" if launch and one.away and not why_not else _verdict(one)
        lines.append(f"  {one.server}  {verdict}")
        if len(examined) > 1:  # else it is in the way, and said there
            lines.extend(f"      {line}" for line in (why_not or "").splitlines())
        lines.extend(f"      {problem}" for problem in one.problems)
    lines[2:2] = [f"  IN THE WAY   {problem}" for problem in problems]
    return "\n".join(lines), room and not problems


def standing_in_the_way(dataset: Dataset) -> list[str]:
    """What would keep a run from writing into the dataset."""
    folder = Folder(dataset)
    problems = [str(problem) for problem in conflicts(folder, lasting(dataset))]
    nearest = folder.images
    while not nearest.exists() and nearest.parent != nearest:
        nearest = nearest.parent
    if not nearest.is_dir():
        problems.append(f"{nearest} is a file, not a folder")
    elif not os.access(nearest, os.W_OK):
        problems.append(f"{nearest} cannot be written to")
    return problems


def _verdict(one: ServerCheck) -> str:
    if one.away:
        return f"away: {one.away}"
    if one.problems:
        return f"ComfyUI {one.version}: cannot take this job"
    busy = f"; {one.remaining} prompts are before ours" if one.remaining else ""
    return f"ComfyUI {one.version}: ready{busy}"
