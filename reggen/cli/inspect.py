"""The commands that only look: plan, check, status, config, schema. They change nothing."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

import reggen
from reggen.cli.options import AsJson, Count, JobFile, Output, Servers, load


def plan(job_file: JobFile, count: Count = None, output: Output = None, as_json: AsJson = False) -> None:
    """Show what would be made: count, sizes, seeds, prompts, disk. Needs no server."""
    planned = reggen.plan(load(job_file, count, output, None))
    if not as_json:
        print(planned)
        return
    classes = [
        {"class": one.class_tokens, "folder": str(one.folder.absolute()), "count": one.count}
        for one in planned.datasets
    ]
    _print_json({"count": len(planned), "classes": classes, "warnings": planned.warnings})


def check(
    job_file: JobFile, count: Count = None, output: Output = None, server: Servers = None, as_json: AsJson = False
) -> None:
    """Check that the job can run: servers, nodes, models, disk.

    Makes nothing. Exit codes: 0 it can, 2 bad job, or no server can take it, 4 no server answers, 5 storage.
    """
    report = asyncio.run(reggen.check(load(job_file, count, output, server)))
    if as_json:
        servers = [
            {"server": one.server, "ready": one.ready, "away": one.away, "problems": one.problems}
            for one in report.servers
        ]
        _print_json({"ready": report.ready, "verdict": report.verdict, "servers": servers})
    else:
        print(report)
    raise typer.Exit(report.exit_code)


def status(job_file: JobFile, count: Count = None, output: Output = None, as_json: AsJson = False) -> None:
    """Show progress: done, missing, given up, rejected. Works beside a run."""
    state = reggen.status(load(job_file, count, output, None))
    if as_json:
        datasets = [asdict(one) for one in state.classes]
        print(json.dumps(datasets[0] if len(datasets) == 1 else datasets, indent=2, ensure_ascii=False))
    else:
        print(state)


def config(
    job_file: JobFile,
    trainer: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="TRAINER", help="kohya, kohya-toml, ai-toolkit, simpletuner, onetrainer or diffusers."
        ),
    ] = None,
    count: Count = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Print the trainer settings for this set, ready to be pasted.

    Hints that cannot be comments in them go to standard error.
    """
    settings = reggen.trainer_settings(load(job_file, count, output, None), trainer)
    if as_json:
        _print_json({"text": settings.text, "hints": settings.hints})
        return
    sys.stdout.write(settings.text)
    for hint in settings.hints:
        print(hint, file=sys.stderr)


def schema() -> None:
    """Print the job file's JSON schema, for editors."""
    print(json.dumps(reggen.schema(), indent=2))


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
