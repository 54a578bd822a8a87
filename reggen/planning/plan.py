"""The plan of one class: every slot's image, computed when asked for and never stored.

A slot is one place in the dataset (reg_017.png). A *take* is one picture for it: take 0 is made first; after a
picture is rejected, by a check or by a person who deleted it, the next take is made, with another seed. Nothing else
changes the seed: neither a lost prompt nor another server.

Seeds: slot i (from 0) in take t has ``(first + i + t * 2**40) mod 2**53``. Slots stay below 2**40 and
takes below 2**13, so no two (slot, take) of one job share a seed. Where several classes share the job's seed, the
k-th (from 0) begins k * 2**32 after it, so up to 256 classes of up to 2**32 images share none either.

Batches: with ``batch = n`` slots k*n ... k*n+n-1 are made by one prompt in take 0, under the seed of
the first of them; that seed, the batch size and its position identify a picture. Later takes are made one by one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from reggen.geometry import Size
from reggen.job.sampling import SEED_LIMIT
from reggen.planning.prompt_source import PromptSource

_TAKE = 1 << 40
_CLASS = 1 << 32
_SAMPLED_TEXTS = 32  # slots whose texts are compared
MAX_TAKES = SEED_LIMIT // _TAKE
CHECKED = 100_000
"""Prompts of a plan that are computed one by one for checks and statistics before a run; later ones are not."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture to make: its slot is ``index``, from 0; seed, batch and position identify it on the server.

    ``size`` is width and height in pixels, ``settings`` one value for each axis of the matrix, by name. None leaves
    the workflow's own value. ``caption`` is the text of the caption file beside the image, if there is one.
    """

    index: int
    take: int
    name: str
    positive: str | None
    negative: str | None
    seed: int
    batch: int = 1
    position: int = 0
    size: Size | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    caption: str | None = None

    @property
    def number(self) -> int:
        """The slot counted from 1, as in the file name."""
        return self.index + 1


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """The samples that one prompt makes: those of one batch that are still missing, under one seed."""

    samples: tuple[Sample, ...]

    @property
    def seed(self) -> int:
        """The seed all pictures of the prompt are made from."""
        return self.samples[0].seed

    @property
    def batch(self) -> int:
        """The number of pictures that the prompt makes; never fewer than its samples."""
        return self.samples[0].batch

    @property
    def origin(self) -> tuple[int, int]:
        """The first slot of the whole batch and its take, the same however much of the batch is missing."""
        return self.samples[0].index - self.samples[0].position, self.samples[0].take

    @property
    def key(self) -> tuple[int, int]:
        """The first slot and its take, which identify the request within the plan."""
        return self.samples[0].index, self.samples[0].take


class Plan:
    """All slots of one class, by index. Takes no time and no memory until it is walked, whatever the count.

    ``source`` gives the specification of each prompt; ``seed`` is that of slot 0, ``batch`` the number of pictures
    made by one prompt. ``negative`` is the negative prompt of all; None leaves the workflow's.
    """

    def __init__(
        self,
        source: PromptSource,
        count: int,
        *,
        seed: int,
        prefix: str = "reg",
        batch: int = 1,
        negative: str | None = None,
    ) -> None:
        self.source, self.batch = source, batch
        self._count, self._seed, self._prefix, self._negative = count, seed, prefix, negative
        self._digits = max(3, len(str(count)))

    def with_batch(self, batch: int) -> Plan:
        """The same slots, made in batches of this size."""
        return Plan(
            self.source, self._count, seed=self._seed, prefix=self._prefix, batch=batch, negative=self._negative
        )

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        return self.sample(index)

    def __iter__(self) -> Iterator[Sample]:
        return (self.sample(index) for index in range(len(self)))

    @cached_property
    def has_one_text(self) -> bool:
        """True where all prompts seem to have the same positive text, judged by slots spread over the plan."""
        slots = range(0, len(self), max(1, len(self) // _SAMPLED_TEXTS))
        return len({self.sample(slot).positive for slot in slots}) == 1

    def sample(self, index: int, take: int = 0) -> Sample:
        """The sample of one slot and take. Raises IndexError outside the count or the takes."""
        if not 0 <= index < len(self) or not 0 <= take < MAX_TAKES:
            raise IndexError(index, take)
        batched = take == 0 and self.batch > 1
        spec = self.source.at(index // self.batch)
        start = index - index % self.batch if batched else index
        return Sample(
            index=index,
            take=take,
            name=self.name(index),
            positive=spec.positive,
            negative=self._negative,
            seed=(self._seed + start + take * _TAKE) % SEED_LIMIT,
            batch=min(self.batch, len(self) - start) if batched else 1,
            position=index - start,
            size=spec.size,
            settings=spec.settings,
            caption=spec.caption,
        )

    def name(self, index: int) -> str:
        """The file name of a slot without its ending."""
        return f"{self._prefix}_{index + 1:0{self._digits}d}"

    def requests(self, start: int, stop: int, takes: dict[int, int], skip: Collection[int]) -> Iterator[PromptRequest]:
        """Requests for the slots ``start <= index < stop`` that are not in ``skip``.

        ``takes`` gives the take of slots that are not in their first. ``start`` and ``stop`` must not
        cut a batch in two (see `aligned`).
        """
        for first in range(start, min(stop, len(self)), self.batch):
            window = range(first, min(first + self.batch, len(self)))
            samples = [self.sample(index, takes.get(index, 0)) for index in window if index not in skip]
            if together := tuple(sample for sample in samples if sample.batch > 1):
                yield PromptRequest(together)
            yield from (PromptRequest((sample,)) for sample in samples if sample.batch == 1)

    def window(self, index: int) -> tuple[int, int]:
        """The first slot of the batch that a slot belongs to, and the first one after it."""
        start = index - index % self.batch
        return start, start + self.batch

    def aligned(self, size: int) -> int:
        """``size`` rounded up to whole batches, as a step for walking the plan."""
        return -(-size // self.batch) * self.batch


def first_seed(seed: int | None, class_tokens: str, number: int = 0) -> int:
    """The seed of a class's first image; ``number`` counts the classes of a job from 0.

    It is the job's seed plus 2**32 for each class before, since one prompt and one seed in two classes would make the
    same picture twice; without a seed, a number computed from the class tokens, the same on every machine.
    """
    if seed is not None:
        return (seed + number * _CLASS) % SEED_LIMIT
    return int.from_bytes(hashlib.sha256(class_tokens.encode()).digest()[:4], "big")


def choice_counts(plan: Plan, slots: Collection[int] | None = None) -> Mapping[str, int]:
    """The number of images with each value of a template and of the matrix, among ``slots`` or all.

    Only the first ``CHECKED`` prompts are counted.
    """
    counts: Counter[str] = Counter()
    for number in range(min(-(-len(plan) // plan.batch), CHECKED)):
        window = range(number * plan.batch, min((number + 1) * plan.batch, len(plan)))
        images = len(window) if slots is None else sum(index in slots for index in window)
        spec = plan.source.at(number)
        if not images or not (spec.values or spec.settings):
            continue
        for value in spec.values:
            counts[f"{value.place}: {value.value}"] += images
        for name, chosen in spec.settings:
            counts[f"{name} = {chosen}"] += images
    return counts
