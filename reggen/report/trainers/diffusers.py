"""Settings for the DreamBooth scripts of diffusers.

The option names are those of huggingface/diffusers examples/dreambooth/train_dreambooth_lora.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from reggen.report.shell import shell_word
from reggen.report.trainer_input import ClassFolder, TrainerInput
from reggen.report.trainers.settings import TrainerSettings
from reggen.wording import listed


def command_lines(data: TrainerInput) -> TrainerSettings:
    """Options of the command line, one line for each class."""
    lines = (" ".join(_words(one, data)) + "\n" for one in data.classes)
    return TrainerSettings("".join(lines), tuple(_hints(data)))


def _words(one: ClassFolder, data: TrainerInput) -> list[str]:
    words = ["--with_prior_preservation", "--class_data_dir", shell_word(str(one.folder), windows=data.windows)]
    words += ["--class_prompt", shell_word(one.class_tokens, windows=data.windows)]
    words += ["--num_class_images", str(one.images)]
    if data.training and data.square_side and len(set(data.training.pixels or ())) == 1:
        words += ["--resolution", str(data.square_side)]
    return words


def _hints(data: TrainerInput) -> Iterator[str]:
    yield (
        "diffusers counts every entry of the folder as an image and generates those that it believes are missing: "
        "complete the run first, and keep other files out of the folder."
    )
    if len(data.classes) > 1:
        yield "It takes one class: use one of these lines."
    others = [f"{data.caption_extension} files"] if data.caption_extension else []
    others += ["metadata.jsonl"] if data.has_metadata_file else []
    if others:
        yield f"This job writes {listed(others)} beside the images: diffusers opens them as images and fails."
