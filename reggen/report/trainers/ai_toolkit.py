"""Settings for ai-toolkit. The key names are those of ostris/ai-toolkit toolkit/config_modules.py."""

from __future__ import annotations

import math
from textwrap import indent
from typing import Any

import yaml

from reggen.report.trainer_input import ClassFolder, TrainerInput
from reggen.report.trainers.settings import TrainerSettings

_DEPTH = " " * 8  # as deep as the entries of `datasets:` in ai-toolkit's own examples


def datasets(data: TrainerInput) -> TrainerSettings:
    """Entries of `datasets:`, without that key: a second one would replace the user's own."""
    text = "# Under `datasets:` of the process, beside the entry of the training images.\n"
    if not data.caption_extension:
        text += "# No captions are written: default_caption is used.\n"
    entries = [_entry(one, data) for one in data.classes]
    text += yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=math.inf)
    return TrainerSettings(indent(text, _DEPTH))


def _entry(one: ClassFolder, data: TrainerInput) -> dict[str, Any]:
    entry: dict[str, Any] = {"folder_path": str(one.folder), "is_reg": True, "num_repeats": one.repeats}
    entry |= {"default_caption": one.class_tokens}
    entry |= {"caption_ext": data.caption_extension.removeprefix(".")} if data.caption_extension else {}
    entry |= {"resolution": data.square_side} if data.square_side else {}
    if data.bucket_options.get("enable_bucket"):
        entry |= {"bucket_tolerance": data.bucket_options["bucket_reso_steps"]}
    return entry
