"""The commands that look and tell: plan, check, status, config, schema. They make and change nothing."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from reggen.cli.options import Count, JobFile, Output, Servers, load
from reggen.errors import BAD_JOB, COMPLETE, NO_SERVER, STORAGE


def plan(job_file: JobFile, count: Count = None, output: Output = None) -> None:
    """Show what would be made: count, sizes, seeds, first prompts, disk. Needs no server."""
    from reggen.prepare.prepared_job import prepare
    from reggen.report.plan_preview import format_plan

    prepared_jobs = prepare(load(job_file, count, output, None), job_file)
    print("\n".join(format_plan(prepared, job_file) for prepared in prepared_jobs))


def check(job_file: JobFile, count: Count = None, output: Output = None, server: Servers = None) -> None:
    """Look whether the job can run: job file, servers, nodes, checkpoint, sampler, disk. Makes nothing."""
    from reggen.dataset.folder import Folder
    from reggen.engine.clients import connected
    from reggen.engine.preflight import ServerCheck, examine, unfit
    from reggen.engine.supervisor import in_the_way
    from reggen.prepare.prepared_job import prepare
    from reggen.report.check_report import check_locally, format_check
    from reggen.report.notify import Notices

    prepared_jobs = prepare(load(job_file, count, output, server), job_file)
    first = prepared_jobs[0]
    Notices(first.notify, job_file, os.environ)  # as a run would find out: whom it could not tell

    async def ask() -> tuple[list[ServerCheck], dict[str, str]]:
        async with connected(first.servers, first.limits, job_file) as clients:
            return await examine(clients, first.template), await in_the_way(first.servers, Folder(first.dataset))

    examined, unstartable = asyncio.run(ask())
    local = check_locally(prepared_jobs)
    print(format_check(first, job_file, local, examined, unstartable))
    if unstartable and len(first.servers) == 1:  # a run would not even ask it
        raise typer.Exit(NO_SERVER)
    started_here = {server.name for server in first.servers if server.launch} - set(unstartable)
    if not any(one.ready or (one.away and one.server in started_here) for one in examined):
        raise typer.Exit(BAD_JOB if unfit(examined) else NO_SERVER)
    raise typer.Exit(COMPLETE if local.passed else STORAGE)


def status(
    job_file: JobFile,
    count: Count = None,
    output: Output = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show how far a dataset is: done, missing, given up, rejected. Works beside a run."""
    from reggen.prepare.prepared_job import prepare
    from reggen.report.status import format_status, read_status

    states = [read_status(prepared.dataset) for prepared in prepare(load(job_file, count, output, None), job_file)]
    data = [asdict(state) for state in states]
    text = json.dumps(data[0] if len(data) == 1 else data, indent=2, ensure_ascii=False)
    print(text if as_json else "\n".join(map(format_status, states)))


def config(
    job_file: JobFile,
    trainer: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="TRAINER", help="kohya, kohya-toml, ai-toolkit, simpletuner, onetrainer, diffusers."
        ),
    ] = None,
    count: Count = None,
    output: Output = None,
) -> None:
    """Print what a trainer is to be told of the images, ready to be pasted. Hints that cannot be comments: stderr."""
    from reggen.prepare.prepared_job import prepare
    from reggen.report.trainer_input import trainer_input
    from reggen.report.trainers import trainer_settings

    found = trainer_settings(trainer, trainer_input(prepare(load(job_file, count, output, None), job_file)))
    sys.stdout.write(found.text)
    for hint in found.hints:
        print(hint, file=sys.stderr)


def schema() -> None:
    """Print the job file's JSON schema, for editors."""
    from reggen.job import loader

    print(json.dumps(loader.schema(), indent=2))
