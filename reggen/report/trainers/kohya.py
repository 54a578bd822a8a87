"""Settings for kohya's trainers: options of the command line, or a --dataset_config.

The key names are those of kohya-ss/sd-scripts library/config_util.py, which reads TOML with the package `toml`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tomli_w

from reggen.report.shell import shell_word
from reggen.report.trainer_input import ClassFolder, TrainerInput
from reggen.report.trainers.settings import TrainerSettings

_WHOLE = "# Everything that is trained on, for --dataset_config. Leave out --train_data_dir and --reg_data_dir.\n"
_PART = """\
# Put this below the [[datasets]] of the training images, beside their [[datasets.subsets]]:
# kohya matches regularization images to the training images of the same entry only.
"""
_NO_CAPTIONS = "# No captions are written: kohya trains the images with their class tokens.\n"


def command_line(data: TrainerInput) -> TrainerSettings:
    """Options of the command line: the folder above the class folders, the captions, the buckets."""
    words = ["--reg_data_dir", shell_word(str(data.classes[0].folder.parent), windows=data.windows)]
    extension = data.training.caption_extension if data.training else data.caption_extension
    words += ["--caption_extension", extension] if data.caption_extension and extension else []
    for name, value in data.bucket_options.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not False:
            words += [f"--{name}", _value(name, value, windows=data.windows)]
    return TrainerSettings(" ".join(words) + "\n", tuple(_hints(data)))


def _value(name: str, value: int | list[int], *, windows: bool) -> str:
    """A value for the command line. PowerShell would split "512,768" unless it is quoted."""
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return shell_word(text, windows=windows) if name == "resolution" else text


def _hints(data: TrainerInput) -> Iterator[str]:
    if not data.caption_extension:
        tokens = ", ".join(repr(one.class_tokens) for one in data.classes)
        yield f"No captions are written: kohya trains the images with their class tokens, {tokens}."
    training = data.training
    if training and data.caption_extension and training.caption_extension != data.caption_extension:
        yield (
            f"kohya reads the captions of both sets with one --caption_extension, and that of the training images is "
            f"{training.caption_extension}. The captions of these images end in {data.caption_extension}, so they are "
            f"not read and the class tokens are used. Write [captions] extension = "
            f'"{training.caption_extension}" in the job, or use --for kohya-toml, where each folder has its own.'
        )
    if training and training.repeats is not None:
        yield (
            "kohya's --train_data_dir reads sub-folders named N_words only, and this one is flat: use --for kohya-toml."
        )
    if training and training.config:
        yield "With a --dataset_config kohya ignores --reg_data_dir: use --for kohya-toml."


def dataset_config(data: TrainerInput) -> TrainerSettings:
    """A whole --dataset_config where the training folder is known, else only the subsets of the class folders.

    The subsets alone have no [[datasets]] of their own: without training images in it kohya would use none of them.
    """
    training_extension = data.training.caption_extension if data.training else None
    if data.bucket_options and data.training_folders:
        parts = [_WHOLE, _table("datasets", data.bucket_options)]
        parts += [_subset(one, training_extension, is_reg=False) for one in data.training_folders]
    else:
        parts = [_PART]
    if not data.caption_extension:
        parts.append(_NO_CAPTIONS)
    parts += [_subset(one, data.caption_extension, is_reg=True) for one in data.classes]
    return TrainerSettings("".join(parts).rstrip("\n") + "\n")


def _subset(one: ClassFolder, extension: str | None, *, is_reg: bool) -> str:
    entry: dict[str, Any] = {"is_reg": True} if is_reg else {}
    entry |= {"image_dir": str(one.folder), "num_repeats": one.repeats, "class_tokens": one.class_tokens}
    entry |= {"caption_extension": extension} if extension else {}
    entry |= {"caption_prefix": "", "caption_suffix": ""} if is_reg else {}  # a config's own hold for reg images, too
    return _table("datasets.subsets", entry)


def _table(name: str, entry: dict[str, Any]) -> str:
    """One table of an array; tomli_w on its own might write a short array of tables in one line."""
    return f"[[{name}]]\n{tomli_w.dumps(entry)}\n"
