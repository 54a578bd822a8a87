"""The settings of a trainer for the images of a job."""

from __future__ import annotations

from reggen.job.models import Job
from reggen.prepare.prepared_job import prepare
from reggen.report import trainers
from reggen.report.trainer_input import trainer_input
from reggen.report.trainers.settings import TrainerSettings


def trainer_settings(job: Job, trainer: str | None) -> TrainerSettings:
    """The settings that tell a trainer of a job's images, ready to be pasted. Blocking.

    ``trainer`` is kohya, kohya-toml, ai-toolkit, simpletuner, onetrainer or diffusers. Raises JobError for another
    name, or a job that cannot be used.
    """
    return trainers.trainer_settings(trainer, trainer_input(prepare(job, job.source)))
