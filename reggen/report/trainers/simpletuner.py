"""Settings for SimpleTuner.

The key names are those of bghira/SimpleTuner simpletuner/helpers/data_backend/config/image.py.
"""

from __future__ import annotations

from typing import Any

from reggen.report.trainer_input import ClassFolder, TrainerInput
from reggen.report.trainers.settings import TrainerSettings, hints_on_captions, json_list


def data_backends(data: TrainerInput) -> TrainerSettings:
    """Entries of multidatabackend.json."""
    hint = "Put it into the list in multidatabackend.json. It works with LyCORIS adapters only."
    text = json_list(_entry(one, data) for one in data.classes)
    return TrainerSettings(text, (hint, *hints_on_captions(data, "SimpleTuner", "the class tokens")))


def _entry(one: ClassFolder, data: TrainerInput) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": f"reg-{one.class_tokens}", "type": "local", "instance_data_dir": str(one.folder)}
    if data.caption_extension == ".txt":
        entry |= {"caption_strategy": "textfile"}
    else:
        entry |= {"caption_strategy": "instanceprompt", "instance_prompt": one.class_tokens}
    entry |= {"repeats": one.repeats - 1}  # SimpleTuner counts the repeats after the first use
    entry |= {"is_regularisation_data": True}
    return entry | ({"resolution": data.square_side, "resolution_type": "pixel_area"} if data.square_side else {})
