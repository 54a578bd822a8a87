"""Command lines about a job, for a shell, as messages tell what to do next."""

from __future__ import annotations

import os
from collections.abc import Sequence

from reggen.job.models import Job
from reggen.prepare.prepared_job import PreparedJob
from reggen.report.shell import shell_word


def command(name: str, job: Job, *options: str) -> str:
    """The words of a command about a job's datasets, quoted for this system's shell; empty for one without a file."""
    if not job.command_words:
        return ""
    quoted = [
        text if text.startswith("--") else shell_word(text, windows=os.name == "nt") for text in job.command_words
    ]
    return " ".join(["python -m reggen", name, *quoted, *options])


def run_again(job: Job, *, rehearsal: bool) -> str:
    """The command that fills a job's datasets, or the call for a job that came from no file."""
    options = ["--rehearse"] if rehearsal else []
    return command("run", job, *options) or f"reggen.run(job{', rehearse=True' if rehearsal else ''})"


def redo_outdated(job: Job, classes: Sequence[PreparedJob]) -> list[str]:
    """The command for each class of a job that has its outdated images made again; empty for a job without a file."""
    several = len(classes) > 1
    words = [one.dataset.class_tokens for one in classes]
    named = [["--class", shell_word(one, windows=os.name == "nt")] if several else [] for one in words]
    return [command("redo", job, "--outdated", *options) for options in named]
