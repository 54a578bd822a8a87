"""kohya's rules as functions of plain data: folder names, use of images, buckets, captions, caches. No I/O.

Every rule was read from kohya-ss/sd-scripts at 48d368fa and is held against its own loader in
tests/conformance/test_kohya.py. Sizes are (width, height) in pixels throughout.
"""

from __future__ import annotations

import glob
import math
import os.path
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from reggen.geometry import Size

ENDINGS = frozenset(f".{ending}" for low in ("png", "jpg", "jpeg", "webp", "bmp") for ending in (low, low.upper()))
"""What kohya lists as images (train_util.py, IMAGE_EXTENSIONS). Mixed case such as .Png is none of them."""
PLUGGED = frozenset({".avif", ".AVIF", ".jxl", ".JXL"})
"""Listed only where kohya's venv has a plug-in for them: pillow_avif, or jxlpy or pillow_jxl."""

_NEW_CACHE = re.compile(r"(?P<stem>.+)_(?P<width>\d{4,})x(?P<height>\d{4,})_[a-z0-9]+\.npz", re.DOTALL)
_TEXT_CACHE = re.compile(r"(?P<stem>.+?)_(te_outputs|sd3_te|flux_te|hi_te|lumina_te|anima_te)\.npz", re.DOTALL)


class NoBucket(ValueError):
    """There is no bucket for an image of this size, in words.

    ``at_start``: kohya ends on it when it makes buckets; otherwise when the VAE is given an image without width.
    """

    def __init__(self, what: str, at_start: bool) -> None:
        super().__init__(what, at_start)
        self.at_start = at_start

    def __str__(self) -> str:
        return str(self.args[0])


def folder_name(name: str) -> tuple[int, str] | None:
    """Repeats and class tokens of a sub-folder of a data dir, or None where kohya passes over it.

    config_util.py, generate_dreambooth_subsets_config_by_subdirs: the part before the first ``_`` is read by
    ``int``, so ``03_x``, `` 2_x`` and ``5`` count; below 1 it is skipped in silence, no integer with a warning.
    """
    number, _, words = name.partition("_")
    try:
        repeats = int(number)
    except ValueError:
        return None
    return (repeats, words) if repeats >= 1 else None


def is_image(name: str) -> bool:
    """Is a file of this name listed as an image, without plug-ins?

    train_util.py, glob_images: ``*`` and the ending, so dotfiles are not, nor is anything in a nested folder.
    """
    return not name.startswith(".") and any(name.endswith(ending) for ending in ENDINGS)


def uses(total: int, folders: Sequence[Size]) -> list[list[int]]:
    """How often each reg image is used, folder by folder, where the train images times repeats make ``total``.

    ``folders`` are (images, repeats) in the order the trainer lists them. train_util.py,
    DreamBoothDataset.__init__: one image after another is taken with its folder's repeats until ``total`` is
    reached, which may overshoot; the rest is never used. If all do not reach it, each gets one more in turn
    until it is exactly reached. Without train images none is used.
    """
    used, taken = [[0] * images for images, _ in folders], 0
    for folder, (images, repeats) in zip(used, folders, strict=True):
        wanted = min(images, max(0, -(-(total - taken) // repeats)))
        folder[:wanted] = [repeats] * wanted
        taken += wanted * repeats
    count = sum(images for images, _ in folders)
    more, rest = divmod(max(0, total - taken), count) if count else (0, 0)
    for folder in used if more or rest else ():
        first = min(rest, len(folder))
        folder[:] = [n + more + (place < first) for place, n in enumerate(folder)]
        rest -= first
    return used


@dataclass(frozen=True, slots=True)
class Bucketing:
    """The options that decide which bucket an image goes to; the defaults are train_network.py's.

    ``enabled`` is --enable_bucket, which is off in kohya itself: every image is then cut to ``resolution``.
    With ``no_upscale`` kohya ignores ``min_reso`` and ``max_reso``.
    """

    resolution: Size
    enabled: bool = True
    min_reso: int = 256
    max_reso: int = 1024
    steps: int = 64
    no_upscale: bool = False

    def problems(self) -> tuple[str, ...]:
        """What kohya would stop on before it reads an image, in words; empty when it would not.

        train_util.py, adjust_min_max_bucket_reso_by_steps (asserts) and model_util.py,
        make_bucket_resolutions (divides by zero when the smallest bucket has no pixels).
        """
        if min(self.resolution) < 1:
            return (f"the resolution {_by(self.resolution)} has no pixels",)
        if not self.enabled:
            return ()
        if self.steps < 1:
            return (f"bucket_reso_steps is {self.steps}; it must be at least 1",)
        return tuple(self._limits())

    def _limits(self) -> list[str]:
        low, high = self.limits
        found = []
        if min(self.resolution) < low:
            found.append(f"min_bucket_reso {low} is above the resolution {_by(self.resolution)}: AssertionError")
        if max(self.resolution) > high:
            found.append(f"max_bucket_reso {high} is below the resolution {_by(self.resolution)}: AssertionError")
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


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def caption_names(path: str, ending: str) -> tuple[str, ...]:
    """The files that are looked for as an image's caption, in order; the first that exists is read.

    train_util.py, DreamBoothDataset.read_caption: where the whole path, as the trainer was given it, has five
    or more parts between ``_``, a name without the last four is tried too; it may well lie in another folder.
    """
    stem = os.path.splitext(path)[0]  # noqa: PTH122 - a path is kohya's text here: Path would tidy it
    parts = stem.split("_")
    ending = dotted(ending)
    return (stem + ending,) if len(parts) < 5 else (stem + ending, "_".join(parts[:-4]) + ending)


def dotted(ending: str) -> str:
    """A caption ending with its dot (train_util.py, DreamBoothSubset.__init__)."""
    return ending if not ending or ending.startswith(".") else f".{ending}"


def caption_of(text: str, *, wildcard: bool = False) -> str | None:
    """What is taken from the text of a caption file; None for an empty one, which is an AssertionError.

    train_util.py, read_caption: the first line, stripped, even when it is blank; with ``enable_wildcard`` all
    lines that are not. A byte order mark is no white space and stays.
    """
    if not text:
        return None
    lines = re.split(r"\r\n|\r|\n", text)
    return "\n".join(line.strip() for line in lines if line.strip()) if wildcard else lines[0].strip()


def latent_caches(stem: str) -> tuple[str, str]:
    """Glob patterns of the latent caches of an image, given its name without the ending.

    strategy_*.py, get_latents_npz_path: ``STEM.npz`` of old, now ``STEM_0512x0768_sdxl.npz``. kohya never
    compares their time with the image's.
    """
    return f"{glob.escape(stem)}.npz", f"{glob.escape(stem)}_[0-9]*x[0-9]*_*.npz"


@dataclass(frozen=True, slots=True)
class LatentCache:
    """What a cache's name says: the stems of images it may belong to, likeliest first; its image's size, if named.

    ``of_text``: it holds what the text encoder made of the caption, not the latents of the image.
    """

    stems: tuple[str, ...]
    size: Size | None = None
    of_text: bool = False


def cache(name: str) -> LatentCache | None:
    """Read the name of an ``.npz`` file; None for another file."""
    if not name.endswith(".npz"):
        return None
    whole = name.removesuffix(".npz")
    if match := _TEXT_CACHE.fullmatch(name):
        return LatentCache((match["stem"], whole), of_text=True)
    if match := _NEW_CACHE.fullmatch(name):
        return LatentCache((match["stem"], whole), (int(match["width"]), int(match["height"])))
    return LatentCache((whole,))
