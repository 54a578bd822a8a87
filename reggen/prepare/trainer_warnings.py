"""Warnings before a run: what would spoil the images for the trainer, or teach it something unwanted. Blocking."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from statistics import median

from reggen.dataset.caption_files import CAPTIONS
from reggen.geometry import size_text
from reggen.job.dataset import Dataset
from reggen.job.models import Captions, Training
from reggen.kohya.buckets import enlargement
from reggen.kohya.folders import suggested_name
from reggen.planning.prompt_source import PromptSettings
from reggen.prompts.guard import Guard
from reggen.prompts.spelling import folded, tokens
from reggen.training.served import ServedPart, images_of
from reggen.training.subsets import image_names, skipped_folders
from reggen.training.training_set import TrainingSet
from reggen.wording import listed, plural
from reggen.workflow.template import Template

_ENLARGED, _SHRUNK = 1.5, 0.5  # of the median training image
_MIN_LETTERS = 3  # of a guessed trigger
_MIN_SHARE = 0.9  # of the captions that it is in
_MAX_GUESSES = 5
_ORDINARY = {"the", "and", "with", "has", "for", "her", "his", "looking", "viewer", "solo", "1girl", "1boy"}


def of_root(root: Path) -> Iterator[str]:
    """A root that holds a variable's name, or is the class folder itself."""
    if found := re.search(r"\$\{?\w+\}?|%\w+%", str(root)):
        yield (
            f"dataset.root has {found[0]}, which is not filled in: the images go to {root.absolute()}; "
            "write the path itself, or ~ for your home"
        )
    if match := re.fullmatch(r"\d{1,3}_.+", root.name):
        yield (
            f"dataset.root ends with {match[0]}, a class folder by its name, so the images go to a folder inside it; "
            "name the folder above it, the trainer's --reg_data_dir"
        )


def of_folder_name(dataset: Dataset) -> Iterator[str]:
    """Class tokens that look like a folder's name, with kohya's repeats before them."""
    if match := re.match(r"(\d+)_.", dataset.class_tokens):
        yield (
            f"the class tokens {dataset.class_tokens!r} begin with a number, so the folder becomes "
            f"{dataset.folder.name}; if {match[1]} is the number of repeats, set dataset.repeats"
        )


def of_unread_training_captions(training: Training | None, training_set: TrainingSet | None) -> Iterator[str]:
    """Captions beside the training images that are not read, because their ending is another."""
    if training_set is None or not training or not training.folder:
        return  # a config says for each folder what is read
    reads = training.caption_extension
    files = dict.fromkeys(image.path.with_suffix(reads) for image in training_set.images)
    yield from (f"{file} is not a file, so no caption is read there" for file in files if _is_odd(file))
    paths = [image.path for image in training_set.images if not image.path.with_suffix(reads).exists()]
    for other in CAPTIONS:
        if other != reads and (count := sum(path.with_suffix(other).exists() for path in paths)):
            lies = (
                f"{count:,} training images have a {other} file beside them"
                if count > 1
                else f"a training image has a {other} file beside it"
            )
            yield f'{lies} that is not read; if the trainer reads it, set training.caption_extension = "{other}"'


def _is_odd(file: Path) -> bool:
    return file.exists() and not file.is_file()


def of_unread_captions(captions: Captions, training: Training | None) -> Iterator[str]:
    """Captions that are written and not read, since the trainer is given one ending for both sets."""
    if captions.write == "none" or not training or not training.folder:  # a config has one for each folder
        return
    reads, written = training.caption_extension, captions.extension
    if reads != written:
        yield (
            f"captions are written as {written}, but kohya reads both sets as {reads}, so it uses the class tokens "
            f'instead; set captions.extension = "{reads}", or train with what `config --for kohya-toml` prints'
        )


def of_caption_affixes(training: Training | None, training_set: TrainingSet | None, guard: Guard) -> Iterator[str]:
    """A prefix or suffix with a forbidden word: kohya puts it around the captions of the reg images, too."""
    if training is None or training_set is None:
        return
    rules = dict.fromkeys(image.rules for image in training_set.images)
    for text in dict.fromkeys(chain.from_iterable((one.prefix, one.suffix) for one in rules)):
        if offence := guard.find(text):
            yield (
                f"kohya puts {text!r} around every caption, also around those of the regularization images, where "
                f"{offence} is forbidden; its --dataset_config can leave it out for them: use the reg subset that "
                "`config --for kohya-toml` prints"
            )


def of_missing_trigger(settings: PromptSettings, training_set: TrainingSet | None) -> Iterator[str]:
    """Training captions that are used unchanged because no trigger is named; with a guess at it."""
    used = settings.prompts.source or settings.captions == "training"
    if not used or training_set is None or settings.trigger:
        return
    captions = [tokens(folded(" ".join(image.trained))) for image in training_set.images]
    common = Counter(word for caption in captions for word in set(caption) if len(word) >= _MIN_LETTERS)
    expected = {*tokens(folded(settings.class_tokens)), *_ORDINARY}
    often = [one for one in dict.fromkeys(chain.from_iterable(captions)) if common[one] >= _MIN_SHARE * len(captions)]
    likely = [repr(word) for word in often if word not in expected][:_MAX_GUESSES]
    guess = f"; it may be among {listed(likely)}, which nearly all of them have" if likely else ""
    yield f"training.trigger is missing, so the captions are used unchanged{guess}"


def of_workflow(template: Template, training: Training | None) -> Iterator[str]:
    """Images made with another checkpoint than the trained one."""
    if training and training.base:
        for other in template.checkpoints:
            if _file_name(other) != _file_name(training.base):
                yield f"{other!r} makes the images, and {training.base!r} is trained: they should be the same"


def _file_name(checkpoint: str) -> str:
    """A checkpoint without its folders, which a trainer and a server seldom name alike."""
    return checkpoint.replace("\\", "/").rpartition("/")[2]


def of_image_sizes(training_set: TrainingSet | None, served: ServedPart | None) -> Iterator[str]:
    """Training images that are much larger or smaller than their buckets: the resolution may be another one."""
    if training_set is None or served is None or not training_set.bucketings[served.sized].is_known:
        return
    factor = median(enlargement(image.size, bucket) for image, bucket in images_of(training_set, served))
    resolution = size_text(training_set.bucketings[served.sized].resolution)
    if factor > _ENLARGED:
        yield (
            f"the median training image is enlarged {factor:.1f} times to fill its bucket at a resolution of "
            f"{resolution}: take larger images, or a lower resolution"
        )
    elif factor <= _SHRUNK:
        yield (
            f"the median training image is {1 / factor:.1f} times as large as its bucket at a resolution of "
            f"{resolution}; if the trainer's resolution is a higher one, say so in [training]"
        )


def of_missing_folders(training_set: TrainingSet | None) -> Iterator[str]:
    """Train folders that kohya passes over: they do not exist, or hold no image."""
    for folder in training_set.missing if training_set else ():
        if folder.is_dir():
            yield f"the training folder {folder} holds no image, so kohya passes over it"
        else:
            yield (
                f"there is no training folder {folder}, so kohya passes over it; a relative image_dir is relative to "
                "the folder where the trainer is started"
            )


def of_skipped_folders(training: Training | None) -> Iterator[str]:
    """Sub-folders of the training folder that are not named N_words, so kohya passes over their images."""
    if training is None or training.folder is None or training.repeats is not None:
        return
    for folder in skipped_folders(training.folder):
        images = plural(len(image_names(folder)), "image")
        yield f"kohya passes over {folder} and its {images}; name it {suggested_name(folder.name)}"


def of_silence_on_buckets(training: Training | None, training_set: TrainingSet | None) -> Iterator[str]:
    """A config that does not name enable_bucket, with images of several shapes: kohya has no buckets then."""
    if training is None or training_set is None or training.config is None or training.says_buckets:
        return
    silent = {
        entry
        for entry, options in enumerate(training_set.options)
        if any(one.name == "enable_bucket" and one.is_default for one in options)
    }
    shapes = {image.size for image in training_set.images if image.entry in silent}
    if len(shapes) > 1:
        yield (
            "the config does not name enable_bucket, so kohya cuts all images to one size; if its command line has "
            "--enable_bucket, set training.enable_bucket = true, else false"
        )


def of_reg_alone(training_set: TrainingSet | None) -> Iterator[str]:
    """Entries of a config with reg folders and no training images, of which kohya uses none."""
    for entry in sorted({one.entry for one in training_set.reg} if training_set else ()):
        if training_set and not training_set.total_of(entry):
            yield (
                f"the config's [[datasets]] {entry + 1} has reg folders and no training images, so kohya uses none of "
                "its reg images; put the reg subset beside the subsets that are trained"
            )


def of_several_entries(training_set: TrainingSet | None) -> Iterator[str]:
    """A config with several ``[[datasets]]``: kohya gives reg images to each by itself."""
    if training_set and len(training_set.bucketings) > 1:
        entries = ", ".join(f"{training_set.total_of(entry):,}" for entry in range(len(training_set.bucketings)))
        yield (
            f"the config has several [[datasets]], of {entries} images with their repeats: kohya uses regularization "
            "images for each by itself, the first ones of its reg folders, and none where it has no reg folder"
        )
