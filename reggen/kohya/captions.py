"""Captions: the files in which kohya looks for them, and what it takes from their text. Pure."""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CaptionRules:
    """The options of a folder's captions.

    ``ending`` of the caption files, with its dot; ``class_tokens``, the caption of images without a file, if any;
    ``wildcard``: enable_wildcard, with which a file has one caption a line.
    """

    ending: str = ".caption"
    class_tokens: str | None = None
    wildcard: bool = False


def caption_paths(image: str, ending: str) -> tuple[str, ...]:
    """The paths where an image's caption is looked for, in order; the first that exists is read.

    train_util.py, DreamBoothDataset.read_caption: where the whole path, as the trainer was given it, has five
    or more parts between ``_``, a name without the last four is tried too; it may well lie in another folder.
    """
    stem = os.path.splitext(image)[0]  # noqa: PTH122 - a path is kohya's text here: Path would tidy it
    parts = stem.split("_")
    ending = with_dot(ending)
    return (stem + ending,) if len(parts) < 5 else (stem + ending, "_".join(parts[:-4]) + ending)


def with_dot(ending: str) -> str:
    """A caption ending with its dot (train_util.py, DreamBoothSubset.__init__)."""
    return ending if not ending or ending.startswith(".") else f".{ending}"


def caption_of(text: str, *, wildcard: bool = False) -> str | None:
    """The caption in the text of a caption file; None for an empty one, which is an AssertionError.

    train_util.py, read_caption: the first line, stripped, even when it is blank; with ``enable_wildcard`` all
    lines that are not. A byte order mark is no white space and stays.
    """
    if not text:
        return None
    lines = re.split(r"\r\n|\r|\n", text)
    return "\n".join(line.strip() for line in lines if line.strip()) if wildcard else lines[0].strip()
