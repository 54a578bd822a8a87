"""Paths that a job refers to: those that do not exist, and the key of a file that cannot be used. Blocking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reggen.errors import JobError, Problem
from reggen.job.models import Job
from reggen.wording import nearest


def demand_paths(job: Job) -> None:
    """Raise JobError, under "the job", for all files and folders of a job that do not exist."""
    missing = tuple(
        Problem(
            key, f"there is no {'folder' if is_folder else 'file'} {_shown(path)}{_nor_beside(job, path)}", _near(path)
        )
        for key, path, is_folder in _paths(job)
        if not _exists(path)
    )
    if missing:
        raise JobError("the job", missing)


def named_in_job(file: str, job: Job, job_file: str) -> str:
    """A file as errors name it: with the key and the job file that name it, where they do."""
    if file == "the job":
        return job_file
    keys = [key for key, path, _ in _paths(job) if str(path) == file]
    return f"{_shown(Path(file))} ({keys[0]} of {job_file})" if keys else file


def _paths(job: Job) -> Iterator[tuple[str, Path, bool]]:
    """Each path that is read, with its key, and true for a folder."""
    if job.workflow:
        yield "workflow.file", job.workflow.file, False
    if job.prompts.wildcards:
        yield "prompts.wildcards", job.prompts.wildcards, True
    if job.training and job.training.folder:
        yield "training.folder", job.training.folder, True
    if job.training and job.training.config:
        yield "training.config", job.training.config, False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # its reader says why
        return True


def _shown(path: Path) -> str:
    return str(path.absolute())


def _nor_beside(job: Job, path: Path) -> str:
    """The place beside the job file, where a relative path was looked for as well."""
    folder = Path(job.source).parent.absolute()
    if path.is_absolute() or not job.command_words or folder == Path.cwd():
        return ""
    return f", nor {folder / path}"


def _near(path: Path) -> str:
    """A name in the same folder that is much like it."""
    try:
        near = nearest(path.name, (entry.name for entry in path.absolute().parent.iterdir()))
    except OSError:
        return ""
    return f"did you mean {path.parent / near}?" if near else ""
