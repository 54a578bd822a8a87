"""The captions of a training set that prompts are made after, each as often as the trainer shows it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from reggen.geometry import Size
from reggen.planning.prompt_source import TrainingExample
from reggen.training.served import ServedPart, images_of
from reggen.training.training_set import TrainingImage, TrainingSet


def training_examples(training_set: TrainingSet, part: ServedPart, *, in_config: bool) -> Iterator[TrainingExample]:
    """An example for each caption of each image that is served: an image with several gives each an equal part.

    ``in_config``: the reg images get options of their own, so the captions beside them are written with the prefix
    and suffix of the training images. On a command line both sets have the same, which kohya adds itself.
    """
    for image, bucket in images_of(training_set, part):
        yield from _examples(image, bucket, in_config=in_config)


def _examples(image: TrainingImage, bucket: Size, *, in_config: bool) -> Iterator[TrainingExample]:
    lines = image.rules.lines(image.caption)
    own = [None] * len(lines) if in_config else image.caption.split("\n")
    repeats = Fraction(image.repeats, len(lines))
    for line, written in zip(lines, own, strict=False):
        yield TrainingExample(image.path.name, line, bucket, repeats, written, image.rules)
