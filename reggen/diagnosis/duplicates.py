"""Images that are copies of another, of the set itself or of the training set, or look like it. Blocking.

Files with the same bytes are found by a digest. For all others a perceptual hash nominates candidates and a pixel
comparison decides, as in the gate for new pictures (`dataset.duplicates`); but each is looked for under its own hash
alone, which is made while it is decoded anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from reggen.dataset.duplicates import training_phashes
from reggen.diagnosis.findings import Observation
from reggen.diagnosis.inspection import InspectedImage
from reggen.images.compare import Match, first_match
from reggen.images.phash_index import CAPACITY, PhashIndex
from reggen.images.probe import ImageFlaw, content_digest

_BITS = 2
"""The number of bits by which the hashes of two candidates may differ.

It is small because a comparison takes ten times as long as decoding. Of copies of the pictures in tests/gallery.py it
finds all through JPEG, 97 of 100 a little brighter, 94 at 90 % size, 90 cut by 2 % and 61 cut by 5 %; of 80,000 pairs
of different pictures it nominates none, where 4 bits nominate 8.
"""


class DuplicateFinder:
    """The images so far. ``count`` is the number of images to come; ``near``: look-alikes are sought, too."""

    def __init__(self, training: Sequence[Path], count: int, *, near: bool) -> None:
        self._training = frozenset(training)
        self._exact = _ExactDuplicates(training)
        self._near = NearDuplicates(training, count) if near else None

    @property
    def training_sizes(self) -> tuple[int, ...]:
        """The sizes of the train images in bytes."""
        return self._exact.training_sizes

    def observe(self, image: InspectedImage) -> Iterator[Observation]:
        """The observation that this image is like an earlier one, if it is; later ones are compared with it."""
        path = image.path
        if ImageFlaw.BLACK in image.info.flaws:  # these are all alike, and reported as black
            return
        if original := self._exact.original_of(path, image.digest, image.size):
            kind = "image-train-duplicate" if original in self._training else "image-duplicate"
            yield Observation(kind, path, f"it has the same bytes as {original}")
        elif self._near and (found := self._near.match_of(path, image.info.phash)):
            original, match = found
            kind = "image-train-near-duplicate" if original in self._training else "image-near-duplicate"
            yield Observation(kind, path, f"it {match} {original}")


class _ExactDuplicates:
    """The files so far, by digest. Train images are read only when a file of their size comes."""

    def __init__(self, training: Sequence[Path]) -> None:
        self._unread_by_size: dict[int, list[Path]] = {}
        self._by_digest: dict[bytes, Path] = {}
        for path in training:
            with suppress(OSError):
                self._unread_by_size.setdefault(path.stat().st_size, []).append(path)

    @property
    def training_sizes(self) -> tuple[int, ...]:
        return tuple(self._unread_by_size)

    def original_of(self, path: Path, digest: bytes | None, size: int) -> Path | None:
        """An earlier file with the same bytes, or None; ``digest`` is None for a file that is alone of its size."""
        if digest is None:
            return None
        for train_image in self._unread_by_size.pop(size, ()):
            if (its_digest := content_digest(train_image)) is not None:
                self._by_digest.setdefault(its_digest, train_image)
        original = self._by_digest.setdefault(digest, path)
        return original if original != path else None


class NearDuplicates:
    """The pictures so far, by perceptual hash; of ``count`` to come no more are remembered than the index holds."""

    def __init__(self, training: Sequence[Path], count: int) -> None:
        self._training, self._capacity = tuple(training), max(1, min(count, CAPACITY))
        self._train_index, self._reg_index = PhashIndex(_BITS, len(self._training)), PhashIndex(_BITS, self._capacity)
        self._paths: list[Path] = []
        self._added = 0
        for number, phash in training_phashes(self._training, lambda: False):
            self._train_index.add(number, phash)

    def match_of(self, path: Path, phash: int | None) -> tuple[Path, Match] | None:
        """An earlier picture or train image that this one is or looks like; a picture like none is remembered."""
        if phash is None:
            return None
        candidates = [self._training[number] for number in self._train_index.find([phash])]
        candidates += [self._paths[place] for place in self._reg_index.find([phash])]
        found = first_match(path, (other for other in candidates if other != path)) if candidates else None
        if found is None:
            self._remember(path, phash)
        return found

    def _remember(self, path: Path, phash: int) -> None:
        place = self._added % self._capacity  # where the index, too, has forgotten the oldest
        self._paths[place : place + 1] = [path]
        self._reg_index.add(place, phash)
        self._added += 1
