"""What the commands have in common: how a job is named, and the words that go over it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from reggen.job.models import Job

JobFile = Annotated[str, typer.Argument(metavar="JOB", help="The job file, such as configs/spyke.toml.")]
Count = Annotated[int | None, typer.Option(min=1, help="How many images, instead of dataset.count.")]
Output = Annotated[Path | None, typer.Option(help="The folder to fill, instead of dataset.root.")]
Servers = Annotated[list[str] | None, typer.Option("--server", help="A ComfyUI address; may be given several times.")]


def load(job_file: str, count: int | None, output: Path | None, servers: list[str] | None) -> Job:
    """The job file with the command line's words over it."""
    from reggen.job import loader

    dataset: dict[str, Any] = {}
    if count is not None:
        dataset["count"] = count
    if output is not None:
        dataset["root"] = str(output)
    overrides: dict[str, Any] = {"dataset": dataset} if dataset else {}
    if servers:
        overrides["servers"] = list(servers)
    return loader.load(job_file, overrides)


def stoppable() -> None:
    """From here on Ctrl-C is an exception: files are changed, and what was begun is put in order."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
