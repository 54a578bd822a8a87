"""Files with the very bytes of another, of the set itself or of the training set. Blocking."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from reggen.images.probe import content_digest


@dataclass(slots=True)
class ExactDuplicates:
    """What was seen so far, by digest. Train images are read only when a file of their size comes along."""

    training: frozenset[Path]
    _by_size: dict[int, list[Path]] = field(default_factory=dict)
    _marks: dict[bytes, Path] = field(default_factory=dict)

    @classmethod
    def of(cls, training: Iterable[Path]) -> ExactDuplicates:
        """With these train images to be compared too."""
        twins = cls(frozenset(training))
        for path in twins.training:
            with suppress(OSError):
                twins._by_size.setdefault(path.stat().st_size, []).append(path)
        return twins

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the train images in bytes."""
        return tuple(self._by_size)

    def seen(self, mark: bytes | None, path: Path, size: int) -> Path | None:
        """An earlier file with the same bytes, or None. ``mark`` is None for a file that is alone of its size."""
        if mark is None:
            return None
        for train in self._by_size.pop(size, ()):
            if (its := content_digest(train)) is not None:
                self._marks.setdefault(its, train)
        match_of = self._marks.setdefault(mark, path)
        return match_of if match_of != path else None
