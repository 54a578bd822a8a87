"""The commands that a morning report offers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NextSteps:
    """The command that fills the dataset, and the one that examines it."""

    run: str
    doctor: str
