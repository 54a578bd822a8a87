"""Before anything is made: the plan in words, and the preflight's findings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from reggen.dataset.folder import Folder
from reggen.engine.fill import bytes_needed, lasting, mib
from reggen.engine.preflight import Examined
from reggen.job import Job
from reggen.plan import Plan, Sample
from reggen.report.state import conflicts, state_of
from reggen.workflow import Template, template

_SHOWN = 5


def preview(job: Job, job_file: str) -> str:
    """What a job would make. Raises WorkflowError."""
    return "\n".join(_preview(job, job_file))


def _preview(job: Job, job_file: str) -> Iterator[str]:
    made_of, plan = template(job), Plan(job)
    dataset, first, last = job.dataset, plan[0], plan[len(plan) - 1]
    yield f"{job_file}: {len(plan):,} images"
    yield f"  folder       {dataset.folder.absolute()}  (repeats {dataset.repeats}, class {dataset.class_words!r})"
    state = state_of(job)
    if state["done"]:
        yield f"  there        {state['done']:,}; to be made: {state['missing']:,}"
    yield f"  names        {first.name}.{dataset.format} ... {last.name}.{dataset.format}"
    yield f"  size         {_size(job)}"
    yield f"  seeds        {first.seed} ... {last.seed}"
    for name in ("checkpoint", "sampler", "scheduler", "steps", "cfg"):
        if (value := made_of.value(name)) is not None:
            yield f"  {name:<12} {value}"
    if job.sampling.batch > 1:
        yield f"  batch        {job.sampling.batch} images for each prompt"
    yield f"  workflow     {job.workflow.file if job.workflow else 'built in'}"
    if job.workflow:
        yield from (f"    {name:<10} -> {_bound(made_of, name)}" for name in made_of.bindings)
        yield f"    images     <- {made_of.label(made_of.output)}"
    yield f"  servers      {', '.join(f'{server.name} (depth {server.depth})' for server in job.servers)}"
    yield f"  disk         about {mib(bytes_needed(job, len(plan)))}, {mib(Folder(dataset).free_bytes())} free"
    yield f"  negative     {first.negative if first.negative is not None else 'as the workflow has it'}"
    yield f"  the first {min(_SHOWN, len(plan))}:"
    yield from (_sample(plan[index]) for index in range(min(_SHOWN, len(plan))))


def _sample(sample: Sample) -> str:
    positive = sample.positive if sample.positive is not None else "the workflow's own prompt"
    return f"    {sample.name}  seed {sample.seed}  {positive}"


def _bound(made_of: Template, name: str) -> str:
    return ", ".join(f"{made_of.label(bound.node)}.{bound.input}" for bound in made_of.bindings[name])


def _size(job: Job) -> str:
    return "{} x {}".format(*job.size) if job.size else "as the workflow has it"


def checked(job: Job, job_file: str, examined: Sequence[Examined]) -> tuple[str, bool]:
    """The preflight's findings in words, and whether the disk has room."""
    folder = Folder(job.dataset)
    need, free = bytes_needed(job, job.dataset.count), folder.free_bytes()
    room = free >= need / 2
    problems = standing_in_the_way(job)
    lines = [f"{job_file}: the job file and its workflow are in order"]
    lines.append(f"  disk         {mib(free)} free, about {mib(need)} needed" + ("" if room else ": TOO LITTLE"))
    lines.extend(f"  IN THE WAY   {problem}" for problem in problems)
    for one in examined:
        launch = next((server.launch for server in job.servers if server.name == one.server), None)
        verdict = f"not running; `run` starts it in {launch}" if launch and one.away else _verdict(one)
        lines.append(f"  {one.server}  {verdict}")
        lines.extend(f"      {problem}" for problem in one.problems)
    return "\n".join(lines), room and not problems


def standing_in_the_way(job: Job) -> list[str]:
    """What would keep a run from writing into the dataset."""
    folder = Folder(job.dataset)
    problems = [str(problem) for problem in conflicts(folder, lasting(job))]
    nearest = folder.images
    while not nearest.exists() and nearest.parent != nearest:
        nearest = nearest.parent
    if not nearest.is_dir():
        problems.append(f"{nearest} is a file, not a folder")
    elif not os.access(nearest, os.W_OK):
        problems.append(f"{nearest} cannot be written to")
    return problems


def _verdict(one: Examined) -> str:
    if one.away:
        return f"away: {one.away}"
    if one.problems:
        return f"ComfyUI {one.version}: cannot take this job"
    busy = f"; {one.remaining} prompts are before ours" if one.remaining else ""
    return f"ComfyUI {one.version}: ready{busy}"
