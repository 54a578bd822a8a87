"""Settings that trainers need to read a set of images, ready to be pasted: one module for each trainer."""

from __future__ import annotations

from collections.abc import Callable

from reggen.errors import JobError, Problem
from reggen.report.trainer_input import TrainerInput
from reggen.report.trainers import ai_toolkit, diffusers, kohya, onetrainer, simpletuner
from reggen.report.trainers.settings import TrainerSettings

_FORMATTERS: dict[str, Callable[[TrainerInput], TrainerSettings]] = {
    "kohya": kohya.command_line,
    "kohya-toml": kohya.dataset_config,
    "ai-toolkit": ai_toolkit.datasets,
    "simpletuner": simpletuner.data_backends,
    "onetrainer": onetrainer.concepts,
    "diffusers": diffusers.command_lines,
}
TRAINERS = tuple(_FORMATTERS)
"""The names that `trainer_settings` knows."""


def trainer_settings(trainer: str | None, data: TrainerInput) -> TrainerSettings:
    """Settings for a trainer. Raises JobError for another name than those in `TRAINERS`."""
    if trainer not in _FORMATTERS:
        problem = "is missing" if trainer is None else f"reggen does not know the trainer {trainer!r}"
        raise JobError("the command line", (Problem("--for", problem, f"write one of {', '.join(TRAINERS)}"),))
    return _FORMATTERS[trainer](data)
