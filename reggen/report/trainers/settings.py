"""The text that a trainer gets, and the pieces that several trainers share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from reggen.report.trainer_input import TrainerInput


@dataclass(frozen=True, slots=True)
class TrainerSettings:
    """The text to paste, whole lines; ``hints`` are the sentences that its syntax has no comments for."""

    text: str
    hints: tuple[str, ...] = ()


def json_list(entries: Iterable[dict[str, Any]]) -> str:
    """JSON text in ASCII: on Windows trainers read JSON in the system's own code page."""
    return json.dumps(list(entries), indent=4) + "\n"


def hints_on_captions(data: TrainerInput, trainer: str, otherwise: str) -> Iterator[str]:
    """A hint for a trainer that reads captions from .txt files only; ``otherwise`` is what it trains with."""
    if data.caption_extension != ".txt":
        written = f"they are written as {data.caption_extension}" if data.caption_extension else "none are written"
        yield (
            f"{trainer} reads captions from .txt files only, and {written}: it trains the images with {otherwise}. To "
            f"change that, write [captions] write = 'class' (or 'prompt') and extension = '.txt' in the job."
        )
