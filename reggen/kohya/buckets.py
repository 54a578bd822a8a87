"""Buckets: the sizes to which kohya scales and cuts images. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from reggen.geometry import Size, size_text


class NoBucket(ValueError):
    """There is no bucket for an image of this size; ``str()`` says why.

    ``at_start``: kohya stops on it when it makes buckets; otherwise when the VAE is given an image without width.
    """

    def __init__(self, what: str, at_start: bool) -> None:
        super().__init__(what, at_start)
        self.at_start = at_start

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Bucketing:
    """The options that decide which bucket an image goes to; the defaults are train_network.py's.

    ``enabled`` is --enable_bucket, which is off in kohya itself: every image is then cut to ``resolution``.
    With ``no_upscale`` kohya ignores ``min_reso`` and ``max_reso``. ``is_known`` is false where nobody has said the
    resolution, which kohya requires: there are no buckets to speak of then.
    """

    resolution: Size
    enabled: bool = True
    min_reso: int = 256
    max_reso: int = 1024
    steps: int = 64
    no_upscale: bool = False
    is_known: bool = True

    def problems(self) -> tuple[str, ...]:
        """The reasons for which kohya would stop before it reads an image; empty when it would not.

        train_util.py, adjust_min_max_bucket_reso_by_steps (asserts) and model_util.py,
        make_bucket_resolutions (divides by zero when the smallest bucket has no pixels).
        """
        if min(self.resolution) < 1:
            return (f"the resolution {size_text(self.resolution)} has no pixels",)
        if not self.enabled or not self.is_known:
            return ()
        if self.steps < 1:
            return (f"bucket_reso_steps is {self.steps}; it must be at least 1",)
        return tuple(self._limits())

    def _limits(self) -> list[str]:
        low, high = self.limits
        found = []
        if min(self.resolution) < low:
            found.append(f"min_bucket_reso {low} is above the resolution {size_text(self.resolution)}: AssertionError")
        if max(self.resolution) > high:
            found.append(f"max_bucket_reso {high} is below the resolution {size_text(self.resolution)}: AssertionError")
        if not self.no_upscale and (low < 1 or math.isqrt(self._area) < self.steps):
            found.append(f"the smallest bucket is below bucket_reso_steps {self.steps}: ZeroDivisionError")
        return found

    @property
    def limits(self) -> tuple[int, int]:
        """``min_reso`` rounded down and ``max_reso`` rounded up to whole steps, as kohya uses them."""
        return self.min_reso - self.min_reso % self.steps, -(-self.max_reso // self.steps) * self.steps

    @property
    def _area(self) -> int:
        return self.resolution[0] * self.resolution[1]

    @property
    def predefined(self) -> tuple[Size, ...]:
        """The buckets there are before any image is seen, sorted; with ``no_upscale`` none.

        model_util.py, make_bucket_resolutions. Raises ValueError where `problems` has any.
        """
        return _predefined(self)

    def bucket(self, width: int, height: int) -> Size:
        """The bucket of an image of this size. Raises NoBucket, or ValueError where `problems` has any.

        train_util.py, BucketManager.select_bucket: the very size if it is predefined, otherwise the nearest
        aspect ratio, the first of equals; with ``no_upscale`` see `_shrunk`.
        """
        if width < 1 or height < 1:
            raise NoBucket(f"an image of {width}x{height} has no pixels: ZeroDivisionError", True)
        if self.enabled and self.no_upscale:
            return self._shrunk(width, height)
        if (width, height) in self.predefined:
            return width, height
        aspect = width / height
        return min(self.predefined, key=lambda size: abs(size[0] / size[1] - aspect))

    def _shrunk(self, width: int, height: int) -> Size:
        """The size, shrunk to the resolution's area when it is larger, and cut down to whole steps."""
        shrunk = self._fitted(width, height) if width * height > self._area else (width, height)
        bucket = (shrunk[0] - shrunk[0] % self.steps, shrunk[1] - shrunk[1] % self.steps)
        if bucket[1] < 1:
            raise NoBucket(f"{width}x{height} is lower than bucket_reso_steps {self.steps}: ZeroDivisionError", True)
        if bucket[0] < 1:
            raise NoBucket(f"{width}x{height} is narrower than bucket_reso_steps {self.steps}", False)
        return bucket

    def _fitted(self, width: int, height: int) -> Size:
        """One side on whole steps, the other by the aspect ratio; of the two ways the one that keeps it better."""
        aspect = width / height
        wide = math.sqrt(self._area * aspect)
        by_width = self._rounded(wide)
        by_height = self._rounded(self._area / wide)
        try:
            off_width = abs(by_width / self._rounded(by_width / aspect) - aspect)
            off_height = abs(self._rounded(by_height * aspect) / by_height - aspect)
        except ZeroDivisionError:
            raise NoBucket(f"{width}x{height} is far from any bucket's shape: ZeroDivisionError", True) from None
        if off_width < off_height:
            return by_width, int(by_width / aspect + 0.5)
        return int(by_height * aspect + 0.5), by_height

    def _rounded(self, length: float) -> int:
        whole = int(length + 0.5)
        return whole - whole % self.steps


def enlargement(size: Size, bucket: Size) -> float:
    """The factor by which kohya enlarges an image to fill its bucket; below 1 where it shrinks it."""
    return max(bucket[0] / size[0], bucket[1] / size[1])


@lru_cache(maxsize=64)
def _predefined(of: Bucketing) -> tuple[Size, ...]:
    if found := of.problems():
        raise ValueError("; ".join(found))
    if not of.enabled:
        return (of.resolution,)
    if of.no_upscale:
        return ()
    low, high = of.limits
    area = of.resolution[0] * of.resolution[1]
    square = int(math.sqrt(area) // of.steps) * of.steps
    made = {(square, square)}
    for width in range(low, high + 1, of.steps):
        height = min(high, area // width // of.steps * of.steps)
        if height >= low:
            made |= {(width, height), (height, width)}
    return tuple(sorted(made))
