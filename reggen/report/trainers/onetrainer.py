"""Settings for OneTrainer. The key names are those of Nerogar/OneTrainer modules/util/config/ConceptConfig.py."""

from __future__ import annotations

from typing import Any

from reggen.report.trainer_input import ClassFolder, TrainerInput
from reggen.report.trainers.settings import TrainerSettings, hints_on_captions, json_list


def concepts(data: TrainerInput) -> TrainerSettings:
    """Concepts of the type PRIOR_PREDICTION, for the concepts file."""
    hint = "Put it into the list in OneTrainer's concepts file. Prior prediction is available for LoRA only."
    text = json_list(_entry(seed, one, data) for seed, one in enumerate(data.classes))
    return TrainerSettings(text, (hint, *hints_on_captions(data, "OneTrainer", "an empty prompt")))


def _entry(seed: int, one: ClassFolder, data: TrainerInput) -> dict[str, Any]:
    """One concept. The seed is fixed, since OneTrainer would rebuild its caches at each start for a new one."""
    entry: dict[str, Any] = {"__version": 2, "name": one.class_tokens, "path": str(one.folder), "seed": seed}
    entry |= {"enabled": True, "type": "PRIOR_PREDICTION", "include_subdirectories": False}
    entry |= {"balancing": float(one.repeats), "balancing_strategy": "REPEATS"}
    entry |= {"text": {"prompt_source": "sample"}}
    if data.training and data.training.pixels and data.square_side:
        exact = "x".join(map(str, data.training.pixels))
        resolution = str(data.square_side) if data.training.enable_bucket else exact
        entry |= {"image": {"enable_resolution_override": True, "resolution_override": resolution}}
    return entry
