"""What trainers are told, as plain values: folders, class tokens, captions, buckets; and the quoting of each syntax."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from reggen.job.models import Training
from reggen.prepare.prepared_job import PreparedJob
from reggen.training.subsets import effective, subsets_in


@dataclass(frozen=True, slots=True)
class ClassFolder:
    """One class folder as a trainer is to read it: its absolute path, class tokens, repeats, images when finished."""

    folder: PurePath
    words: str
    repeats: int
    count: int


@dataclass(frozen=True, slots=True)
class TrainerInput:
    """What there is to tell. All of ``served`` lie in one folder, and there is at least one.

    ``captions`` is the ending of the caption files beside the images, None where there are none; ``listed`` says
    that a metadata.jsonl is among them. ``train`` are the folders of a ``--train_data_dir``. ``windows`` decides
    how a shell's words are quoted.
    """

    served: tuple[ClassFolder, ...]
    captions: str | None = None
    training: Training | None = None
    train: tuple[ClassFolder, ...] = ()
    listed: bool = False
    windows: bool = os.name == "nt"

    @property
    def options(self) -> dict[str, Any]:
        """Resolution and bucket options by kohya's names; none where a --dataset_config has them, or nobody."""
        if self.training is None or self.training.folder is None:
            return {}
        resolution, buckets = self.training.resolution, self.training.enable_bucket
        options: dict[str, Any] = {"resolution": resolution if isinstance(resolution, int) else list(resolution)}
        options["enable_bucket"] = buckets
        for name in ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale"):
            options |= {name: getattr(self.training, name)} if buckets else {}
        return options

    @property
    def side(self) -> int | None:
        """The side of the square that has as many pixels as the resolution, in pixels; None where it is not known."""
        return round(math.sqrt(math.prod(self.training.pixels))) if self.training and self.options else None


def asked(prepared_jobs: Sequence[PreparedJob]) -> TrainerInput:
    """What the classes of one job have to tell."""
    job = prepared_jobs[0].job
    served = [
        ClassFolder(one.folder.absolute(), one.class_words, one.repeats, one.count)
        for one in (prepared.job.dataset for prepared in prepared_jobs)
    ]
    return TrainerInput(
        tuple(served),
        None if job.captions.write == "none" else job.captions.extension,
        job.training,
        tuple(_trained(job.training)) if job.training else (),
        "jsonl" in job.dataset.listings,
    )


def _trained(training: Training) -> Iterator[ClassFolder]:
    if training.folder is not None:
        found = effective(subsets_in(training.folder.absolute(), training.caption_extension, is_reg=False))
        for subset in sorted(found, key=lambda one: one.folder):
            yield ClassFolder(subset.folder, subset.caption_rules.class_tokens or "", subset.repeats, 0)


# ---- quoting


def word(text: str, *, windows: bool) -> str:
    """One word for a shell: POSIX, or one of Windows', where a path cannot hold a double quote."""
    if not windows:
        return shlex.quote(text)
    tail = "\\" * (len(text) - len(text.rstrip("\\")))
    return f'"{text}{tail}"'  # a backslash before the closing quote would take it away


def quoted(text: str) -> str:
    """A basic string of TOML, which is a double-quoted one of YAML too; what cannot be seen is escaped."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def as_json(entries: Iterable[dict[str, Any]]) -> str:
    """In ASCII: on Windows trainers read JSON in the system's own code page."""
    return json.dumps(list(entries), indent=4) + "\n"
