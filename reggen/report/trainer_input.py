"""The values that every trainer's settings are made of: folders, class tokens, captions, buckets."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from reggen.job.models import Training
from reggen.prepare.prepared_job import PreparedJob
from reggen.training.subsets import effective, train_subsets


@dataclass(frozen=True, slots=True)
class ClassFolder:
    """A class folder for a trainer: absolute path, class tokens, repeats, number of images when complete."""

    folder: PurePath
    class_tokens: str
    repeats: int
    images: int


@dataclass(frozen=True, slots=True)
class TrainerInput:
    """Everything that a trainer's settings depend on.

    ``classes`` has at least one folder, and all of them are in one parent. ``caption_extension`` is that of the
    caption files beside the images, None where there are none. ``training_folders`` are the folders below a
    ``--train_data_dir``. ``has_metadata_file``: a metadata.jsonl is among the images. ``windows`` decides how command
    lines are quoted.
    """

    classes: tuple[ClassFolder, ...]
    caption_extension: str | None = None
    training: Training | None = None
    training_folders: tuple[ClassFolder, ...] = ()
    has_metadata_file: bool = False
    windows: bool = os.name == "nt"

    @property
    def bucket_options(self) -> dict[str, Any]:
        """Resolution and bucket options by kohya's names; empty where they are not known or in a --dataset_config."""
        if self.training is None or self.training.folder is None:
            return {}
        resolution, buckets = self.training.resolution, self.training.enable_bucket
        options: dict[str, Any] = {}
        if resolution is not None:
            options["resolution"] = resolution if isinstance(resolution, int) else list(resolution)
        options["enable_bucket"] = buckets
        for name in ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale"):
            options |= {name: getattr(self.training, name)} if buckets else {}
        return options

    @property
    def square_side(self) -> int | None:
        """Side in pixels of the square that has as many pixels as the resolution; None where that is not known."""
        pixels = self.training.pixels if self.training and self.bucket_options else None
        return round(math.sqrt(math.prod(pixels))) if pixels else None


def trainer_input(prepared_jobs: Sequence[PreparedJob]) -> TrainerInput:
    """The trainer's values for all classes of one job."""
    first = prepared_jobs[0]
    datasets = [prepared.dataset for prepared in prepared_jobs]
    classes = (ClassFolder(one.folder.absolute(), one.class_tokens, one.repeats, one.count) for one in datasets)
    return TrainerInput(
        tuple(classes),
        None if first.captions.write == "none" else first.captions.extension,
        first.training,
        tuple(_training_folders(first.training)) if first.training else (),
        "jsonl" in first.dataset.listings,
    )


def _training_folders(training: Training) -> Iterator[ClassFolder]:
    if training.folder is not None:
        found = effective(train_subsets(training.folder.absolute(), training.command_line_captions, training.repeats))
        for subset in sorted(found, key=lambda one: one.folder):
            yield ClassFolder(subset.folder, subset.caption_rules.class_tokens or "", subset.repeats, 0)
