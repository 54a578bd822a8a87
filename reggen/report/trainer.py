"""What a trainer is to be told of the images, ready to be pasted.

The key names were read from each trainer's own sources: kohya-ss/sd-scripts library/config_util.py, ostris/ai-toolkit
toolkit/config_modules.py, bghira/SimpleTuner simpletuner/helpers/data_backend/config/image.py, Nerogar/OneTrainer
modules/util/config/ConceptConfig.py, huggingface/diffusers examples/dreambooth/train_dreambooth_lora.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from reggen.errors import JobError, Problem
from reggen.report.trainer_input import ClassFolder, TrainerInput, as_json, quoted, word


@dataclass(frozen=True, slots=True)
class TrainerSettings:
    """The text to paste, whole lines; ``hints`` are sentences for which its syntax has no comments."""

    text: str
    hints: tuple[str, ...] = ()


def section(trainer: str | None, what: TrainerInput) -> TrainerSettings:
    """The section for a trainer. Raises JobError, with a list of those there are, for another name."""
    if trainer not in _TRAINERS:
        said = "is missing" if trainer is None else f"{trainer!r} is no trainer that reggen knows"
        raise JobError("the command line", (Problem("--for", said, f"write one of {', '.join(_TRAINERS)}"),))
    return _TRAINERS[trainer](what)


# ---- kohya


def _kohya(what: TrainerInput) -> TrainerSettings:
    words = ["--reg_data_dir", word(str(what.served[0].folder.parent), windows=what.windows)]
    ending = what.training.caption_extension if what.training else what.captions
    words += ["--caption_extension", ending] if what.captions and ending else []
    for name, value in what.options.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not False:
            words += [f"--{name}", word(_comma(value), windows=what.windows) if name == "resolution" else str(value)]
    return TrainerSettings(" ".join(words) + "\n", tuple(_kohya_hints(what)))


def _kohya_hints(what: TrainerInput) -> Iterator[str]:
    if not what.captions:
        tokens = ", ".join(repr(one.words) for one in what.served)
        yield f"No captions are written: kohya trains the images with their class tokens, {tokens}."
    training = what.training
    if training and what.captions and training.caption_extension != what.captions:
        yield (
            f"--caption_extension holds for the training images too, and theirs is {training.caption_extension}: the "
            f"captions of these images end in {what.captions} and are not read, their class tokens stand in. Write "
            f'[captions] extension = "{training.caption_extension}" in the job, or use --for kohya-toml, where each '
            f"folder has its own."
        )
    if training and training.config:
        yield "With a --dataset_config kohya ignores --reg_data_dir: use --for kohya-toml."


def _kohya_toml(what: TrainerInput) -> TrainerSettings:
    ending = what.training.caption_extension if what.training else None
    lines = []
    if what.options and what.train:
        lines += ["# Everything that is trained on, for --dataset_config. Leave out --train_data_dir, --reg_data_dir."]
        lines += ["[[datasets]]", *(f"{name} = {json.dumps(value)}" for name, value in what.options.items()), ""]
        lines += [line for one in what.train for line in _subset(one, ending, is_reg=False)]
    else:
        lines += ["# Put this below the [[datasets]] of the training images, beside their [[datasets.subsets]]:"]
        lines += ["# kohya matches regularization images to the training images of the same entry only."]
    if not what.captions:
        lines.append("# No captions are written: kohya trains the images with their class tokens.")
    lines += [line for one in what.served for line in _subset(one, what.captions, is_reg=True)]
    return TrainerSettings("\n".join(lines).rstrip("\n") + "\n")


def _subset(one: ClassFolder, ending: str | None, *, is_reg: bool) -> Iterator[str]:
    yield "[[datasets.subsets]]"
    if is_reg:
        yield "is_reg = true"
    yield f"image_dir = {quoted(str(one.folder))}"
    yield f"num_repeats = {one.repeats}"
    yield f"class_tokens = {quoted(one.words)}"
    if ending:
        yield f"caption_extension = {quoted(ending)}"
    yield ""


# ---- the others


def _ai_toolkit(what: TrainerInput) -> TrainerSettings:
    lines = ["# Under `datasets:` of the process, beside the entry of the training images."]
    if not what.captions:
        lines.append("# No captions are written: default_caption is used.")
    for one in what.served:
        entry: dict[str, Any] = {"folder_path": str(one.folder), "is_reg": True, "num_repeats": one.repeats}
        entry |= {"default_caption": one.words}
        entry |= {"caption_ext": what.captions.removeprefix(".")} if what.captions else {}
        entry |= {"resolution": what.side} if what.side else {}
        entry |= {"bucket_tolerance": what.options["bucket_reso_steps"]} if what.options.get("enable_bucket") else {}
        pairs = [
            f"{name}: {quoted(value) if isinstance(value, str) else json.dumps(value)}" for name, value in entry.items()
        ]
        lines += [f"- {pairs[0]}", *(f"  {pair}" for pair in pairs[1:])]
    return TrainerSettings("".join(f"{' ' * 8}{line}\n" for line in lines))  # as deep as in ai-toolkit's own examples


def _simpletuner(what: TrainerInput) -> TrainerSettings:
    entries = []
    for one in what.served:
        entry: dict[str, Any] = {"id": f"reg-{one.words}", "type": "local", "instance_data_dir": str(one.folder)}
        read = what.captions == ".txt"
        entry |= {"caption_strategy": "textfile" if read else "instanceprompt"}
        entry |= {} if read else {"instance_prompt": one.words}
        entry |= {
            "repeats": one.repeats - 1,
            "is_regularisation_data": True,
        }  # it counts what comes after the first time
        entry |= {"resolution": what.side, "resolution_type": "pixel_area"} if what.side else {}
        entries.append(entry)
    hints = ["Put it into the list in multidatabackend.json. It works with LyCORIS adapters only."]
    return TrainerSettings(as_json(entries), (*hints, *_only_txt(what, "SimpleTuner", "the class tokens")))


def _onetrainer(what: TrainerInput) -> TrainerSettings:
    entries = []
    for number, one in enumerate(what.served):
        entry: dict[str, Any] = {"__version": 2, "name": one.words, "path": str(one.folder), "seed": number}
        entry |= {"enabled": True, "type": "PRIOR_PREDICTION", "include_subdirectories": False}
        entry |= {"balancing": float(one.repeats), "balancing_strategy": "REPEATS"}
        entry |= {"text": {"prompt_source": "sample"}}
        if what.training and what.side:
            exact = "x".join(map(str, what.training.pixels))
            override = str(what.side) if what.training.enable_bucket else exact
            entry |= {"image": {"enable_resolution_override": True, "resolution_override": override}}
        entries.append(entry)
    hints = ["Put it into the list in OneTrainer's concepts file. Prior prediction is there for LoRA only."]
    return TrainerSettings(as_json(entries), (*hints, *_only_txt(what, "OneTrainer", "an empty prompt")))


def _only_txt(what: TrainerInput, trainer: str, otherwise: str) -> Iterator[str]:
    if what.captions != ".txt":
        written = f"they are written as {what.captions}" if what.captions else "none are written"
        remedy = "[captions] write = 'class' (or 'prompt'), extension = '.txt' in the job changes that."
        yield f"{trainer} reads captions from .txt only, and {written}: it trains the images with {otherwise}. {remedy}"


def _diffusers(what: TrainerInput) -> TrainerSettings:
    lines = []
    for one in what.served:
        words = ["--with_prior_preservation", "--class_data_dir", word(str(one.folder), windows=what.windows)]
        words += ["--class_prompt", word(one.words, windows=what.windows), "--num_class_images", str(one.count)]
        if what.training and what.options and len(set(what.training.pixels)) == 1:
            words += ["--resolution", str(what.side)]
        lines.append(" ".join(words))
    return TrainerSettings("\n".join(lines) + "\n", tuple(_diffusers_hints(what)))


def _diffusers_hints(what: TrainerInput) -> Iterator[str]:
    yield (
        "diffusers counts every entry of the folder as an image, whatever it is, and generates into it what it "
        "believes is missing: let the run be complete first, and keep other files out."
    )
    if len(what.served) > 1:
        yield "It takes one class: use one of these lines."
    among = [f"{what.captions} files"] if what.captions else []
    among += ["metadata.jsonl"] if what.listed else []
    if among:
        yield f"This job puts {' and '.join(among)} among the images: diffusers opens them as images, and ends."


_TRAINERS: dict[str, Callable[[TrainerInput], TrainerSettings]] = {
    "kohya": _kohya,
    "kohya-toml": _kohya_toml,
    "ai-toolkit": _ai_toolkit,
    "simpletuner": _simpletuner,
    "onetrainer": _onetrainer,
    "diffusers": _diffusers,
}
TRAINERS = tuple(_TRAINERS)
"""The names that `section` knows."""


def _comma(resolution: int | list[int]) -> str:
    return ",".join(map(str, resolution)) if isinstance(resolution, list) else str(resolution)
