"""The caption of an image, read as kohya reads it. Blocking."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from reggen.files import opened
from reggen.kohya.captions import CaptionRules, caption_of, caption_paths


class CaptionSource(StrEnum):
    """The place a caption comes from."""

    FILE = "caption file"
    OTHER_FILE = "a file of another name"  # see kohya.captions.caption_paths
    CLASS_TOKENS = "class tokens"
    NOTHING = "nothing"


class CaptionFault(StrEnum):
    """A fault of a caption file, by the kind of finding that reports it."""

    EMPTY = "caption-empty"
    NOT_UTF8 = "caption-not-utf8"
    BLANK = "caption-blank"
    BOM = "caption-bom"

    @property
    def stops_training(self) -> bool:
        """True where kohya stops when it reads the file."""
        return self in {CaptionFault.EMPTY, CaptionFault.NOT_UTF8}


@dataclass(frozen=True, slots=True)
class Caption:
    """The text an image is trained with; ``file`` is where it was read, None for class tokens.

    A byte order mark is kept in ``text``, as kohya keeps it. With a fault that stops the training the text is empty.
    """

    text: str
    source: CaptionSource
    file: Path | None = None
    fault: CaptionFault | None = None


def read_caption(image: Path, rules: CaptionRules) -> Caption:
    """The caption of an image. ``image`` is its path as the trainer is given it: kohya counts its ``_``."""
    own, *others = (Path(path) for path in caption_paths(str(image), rules.ending))
    if own.is_file():
        return _read(own, CaptionSource.FILE, wildcard=rules.wildcard)
    for other in others:
        if other.is_file():
            return _read(other, CaptionSource.OTHER_FILE, wildcard=rules.wildcard)
    if rules.class_tokens is not None:
        return Caption(rules.class_tokens, CaptionSource.CLASS_TOKENS)
    return Caption("", CaptionSource.NOTHING)


def _read(file: Path, source: CaptionSource, *, wildcard: bool) -> Caption:
    try:
        with opened(file) as stream:
            content = stream.read()
        text = caption_of(content.decode("utf-8"), wildcard=wildcard)
    except (UnicodeDecodeError, OSError):  # a file that may not be opened stops the training, too
        return Caption("", source, file, CaptionFault.NOT_UTF8)
    if text is None:
        return Caption("", source, file, CaptionFault.EMPTY)
    if content.startswith(codecs.BOM_UTF8):
        return Caption(text, source, file, CaptionFault.BOM)
    return Caption(text, source, file, None if text else CaptionFault.BLANK)
