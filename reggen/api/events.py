"""Events of a run as the API and the command line receive them: those of one class, and what stands around them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reggen.engine.summary import Summary
from reggen.progress import RunEvent


@dataclass(frozen=True, slots=True)
class ClassStarted:
    """A class begins, the ``number``-th (from 1) of ``classes``; those after it lack ``later`` images."""

    at: float
    class_tokens: str
    dataset: Path
    number: int
    classes: int
    later: int


@dataclass(frozen=True, slots=True)
class ClassFinished:
    """A class has ended; ``text`` is its summary for people."""

    at: float
    class_tokens: str
    summary: Summary
    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence for people, from before, beside or after the work of a class."""

    at: float
    text: str


Event = RunEvent | ClassStarted | ClassFinished | Note
