"""The command that writes the morning report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import reggen
from reggen.cli.options import Count, JobFile, Output, load


def report(
    job_file: JobFile,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="One HTML file for all classes.")] = None,
    count: Count = None,
    output: Output = None,
) -> None:
    """Write a page: pictures, rejected ones, variety, settings."""
    for file in reggen.morning_report(load(job_file, count, output, None), to):
        print(file.absolute())
