"""The caption of an image, as kohya reads it. Blocking."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from reggen.files import opened
from reggen.kohya.rules import caption_names, caption_of


class CaptionSource(StrEnum):
    """Where a caption came from."""

    FILE = "caption file"
    OTHER = "a file of another name"  # the five-part quirk: see kohya.caption_names
    WORDS = "class tokens"
    NONE = "nothing"


class CaptionFault(StrEnum):
    """What is wrong with a caption file. The first two end the training."""

    EMPTY = "caption-empty"
    NOT_TEXT = "caption-not-utf8"
    BLANK = "caption-blank"
    MARKED = "caption-bom"

    @property
    def fatal(self) -> bool:
        """Does kohya stop on it?"""
        return self in {CaptionFault.EMPTY, CaptionFault.NOT_TEXT}


@dataclass(frozen=True, slots=True)
class CaptionRules:
    """How captions are sought: the ending with its dot, the class tokens if any, ``enable_wildcard``."""

    ending: str = ".caption"
    class_tokens: str | None = None
    wildcard: bool = False


@dataclass(frozen=True, slots=True)
class Caption:
    """What an image is trained with; ``file`` is where it was read, None for class tokens.

    A byte order mark is kept in ``text``, as kohya keeps it. With a fatal fault the text is empty.
    """

    text: str
    source: CaptionSource
    file: Path | None = None
    fault: CaptionFault | None = None


def read_caption(image: Path, reading: CaptionRules) -> Caption:
    """The caption of an image. ``image`` is its path as the trainer is given it: the quirk counts its ``_``."""
    own, *other = (Path(name) for name in caption_names(str(image), reading.ending))
    for file, source in ((own, CaptionSource.FILE), *((file, CaptionSource.OTHER) for file in other)):
        if file.is_file():
            return _read(file, source, wildcard=reading.wildcard)
    if reading.class_tokens is not None:
        return Caption(reading.class_tokens, CaptionSource.WORDS)
    return Caption("", CaptionSource.NONE)


def _read(file: Path, source: CaptionSource, *, wildcard: bool) -> Caption:
    try:
        with opened(file) as stream:
            content = stream.read()
        text = caption_of(content.decode("utf-8"), wildcard=wildcard)
    except (UnicodeDecodeError, OSError):  # one that may not be opened ends the training all the same
        return Caption("", source, file, CaptionFault.NOT_TEXT)
    if text is None:
        return Caption("", source, file, CaptionFault.EMPTY)
    fault = CaptionFault.MARKED if content.startswith(codecs.BOM_UTF8) else CaptionFault.BLANK if not text else None
    return Caption(text, source, file, fault)
