"""The part of a training set that one reg set serves: its entries, its share of their images, the sizes it needs. Pure.

kohya fills each ``[[datasets]]`` entry from the reg folders in it, one folder after another in the config's order.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from pathlib import Path

from reggen.geometry import Size
from reggen.kohya.buckets import Bucketing
from reggen.training.training_set import SubsetCount, TrainingImage, TrainingSet


@dataclass(frozen=True, slots=True)
class ServedPart:
    """The entries that a reg set serves.

    ``counted`` is the one that uses the most images of the set, ``count`` that number, repeats included; ``before`` are
    the reg folders that take their part of it first. ``sized`` is the entry with the largest resolution: kohya shrinks
    the same images for the others, and would have to enlarge them the other way round.
    """

    entries: tuple[int, ...]
    counted: int
    count: int
    before: tuple[SubsetCount, ...]
    sized: int


def served_part(training_set: TrainingSet, own: Collection[Path] = ()) -> ServedPart:
    """The part that the reg folders ``own`` serve: the entries that name one of them.

    Where none does: the entries that name reg folders at all, and else all of them.
    """
    folders = {folder.resolve() for folder in own}
    naming = {one.entry for one in training_set.reg if one.folder.resolve() in folders}
    entries = tuple(sorted(naming or {one.entry for one in training_set.reg} or range(len(training_set.bucketings))))
    before = {entry: _before(training_set, entry, folders) for entry in entries}
    counts = {entry: _left(training_set.total_of(entry), before[entry]) for entry in entries}
    counted = max(entries, key=counts.__getitem__)
    with_images = [entry for entry in entries if training_set.total_of(entry)] or entries
    sized = max(with_images, key=lambda entry: (prod(training_set.bucketings[entry].resolution), counts[entry]))
    return ServedPart(entries, counted, counts[counted], before[counted], sized)


def _before(training_set: TrainingSet, entry: int, own: Collection[Path]) -> tuple[SubsetCount, ...]:
    """The reg folders of an entry before the first of our own; all of them where ours are still to be added."""
    found = list[SubsetCount]()
    for one in training_set.reg:
        if one.entry == entry and one.folder.resolve() in own:
            break
        if one.entry == entry and one.images:
            found.append(one)
    return tuple(found)


def _left(total: int, before: Collection[SubsetCount]) -> int:
    return max(0, total - sum(one.images * one.repeats for one in before))


def images_of(training_set: TrainingSet, part: ServedPart) -> tuple[tuple[TrainingImage, Size], ...]:
    """The train images of a part, each once, with its bucket at the largest resolution.

    An image that several entries train is taken from the one with the largest resolution. Where kohya uses none of the
    set, since its entries train nothing, the images of all entries stand in.
    """
    bucketing = training_set.bucketings[part.sized]
    entries = part.entries if any(map(training_set.total_of, part.entries)) else range(len(training_set.bucketings))
    order = sorted(entries, key=lambda entry: entry != part.sized)
    found: dict[Path, TrainingImage] = {}
    for entry in order:
        for image in training_set.images:
            if image.entry == entry:
                found.setdefault(image.path, image)
    return tuple((image, _bucket(image, bucketing, part.sized)) for image in found.values())


def _bucket(image: TrainingImage, bucketing: Bucketing, sized: int) -> Size:
    if image.entry == sized or not bucketing.is_known:
        return image.bucket
    return bucketing.bucket(*image.size)
