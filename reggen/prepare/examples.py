"""The captions of a training set that prompts are made after, each as often as the trainer shows it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from reggen.planning.prompt_source import TrainingExample
from reggen.training.training_set import TrainingImage, TrainingSet


def training_examples(training_set: TrainingSet, *, in_config: bool) -> Iterator[TrainingExample]:
    """An example for each caption of each image: an image with several captions gives each an equal part.

    ``in_config``: the reg images get options of their own, so the captions beside them are written with the prefix
    and suffix of the training images. On a command line both sets have the same, which kohya adds itself.
    """
    for image in training_set.images:
        yield from _examples(image, in_config=in_config)


def _examples(image: TrainingImage, *, in_config: bool) -> Iterator[TrainingExample]:
    lines = image.rules.lines(image.caption)
    own = [None] * len(lines) if in_config else image.caption.split("\n")
    repeats = Fraction(image.repeats, len(lines))
    for line, written in zip(lines, own, strict=False):
        yield TrainingExample(image.path.name, line, image.bucket, repeats, written, image.rules)
