"""The validation split: the train images that kohya sets aside to measure with. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ValidationSplit:
    """validation_split and validation_seed. Reg images are never split.

    train_util.py, split_train_val: a folder's images, in the order of their names, are shuffled by the seed and the
    first part of them is trained.
    """

    share: float = 0.0
    seed: int | None = None

    def count(self, images: int) -> int:
        """The number of a folder's images that are trained."""
        if self.share <= 0:
            return images
        return len(range(images)[: math.ceil(images * (1 - self.share))])

    def trained(self, names: Sequence[str]) -> list[str]:
        """The images of a folder that are trained, in kohya's order; all of them where no seed decides."""
        found = list(names)
        if self.share <= 0 or self.seed is None:
            return found
        random.Random(self.seed).shuffle(found)
        return found[: self.count(len(found))]


NO_SPLIT = ValidationSplit()
"""All images are trained."""
