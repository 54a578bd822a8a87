"""Arguments and options that several commands share."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

import reggen

JobFile = Annotated[str, typer.Argument(metavar="JOB", help="The job file, such as configs/spyke.toml.")]
Count = Annotated[int | None, typer.Option(min=1, metavar="N", help="Number of images, instead of dataset.count.")]
Output = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder to fill, instead of dataset.root.")]
Servers = Annotated[
    list[str] | None,
    typer.Option("--server", metavar="URL", help="ComfyUI address, instead of the job's; repeat it for several."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def load(job_file: str, count: int | None, output: Path | None, servers: list[str] | None) -> reggen.Job:
    """The job of a file, with the command line's options over it."""
    return reggen.load(job_file, count=count, output=output, servers=servers or ())


def stoppable() -> None:
    """From here on Ctrl-C is an exception: files are changed, and what was begun is put in order."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
