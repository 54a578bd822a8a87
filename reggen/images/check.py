"""The checks an image passes before it enters the dataset. Blocking: call them in a thread.

kohya reads only the header of an image before it trains, so a torn file fails hours later: here every image is
decoded whole.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from PIL import Image, ImageChops, ImageStat, UnidentifiedImageError

from reggen.errors import BadImage, WrongSizeImage
from reggen.files import opened
from reggen.geometry import Size, size_text
from reggen.images.decode import DECODE_ERRORS, eight_bit, is_16_bit_grey, is_whole_png
from reggen.images.formats import DESCRIPTION
from reggen.images.phash import phashes
from reggen.job.models import Checks

BLACK = 8
"""The highest value of any channel of a black picture: of NaNs, or of a safety filter."""
FLAT = 1.0
"""The highest standard deviation of any channel of a picture of one colour."""
NOISE = 0.8
"""The largest `roughness` of a picture; of pure noise it is 1.13."""
_MIDDLE = 256  # pixels each way whose roughness is measured: of a picture scaled down, noise would be smooth
_LIMIT = 1 << 63  # of the numbers that a ledger holds
_PILLOW_NAMES = {"png": "PNG", "webp": "WEBP", "jpg": "JPEG"}

Note = dict[str, int]
"""Slot, take, seed and batch ("index", "take", "seed", "batch") of the request a picture was made for."""


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """The demands on an image. ``size`` in pixels, None for any; the flags turn single checks off.

    ``any_size``: the job checks no sizes, so `for_size` has no effect. ``duplicates``: the result holds the hashes by
    which the image is compared with others.
    """

    size: Size | None
    any_size: bool = False
    black: bool = True
    flat: bool = True
    megapixels: int = 100
    noise: bool = True
    black_level: int = BLACK
    flat_level: float = FLAT
    noise_level: float = NOISE
    duplicates: bool = False

    @classmethod
    def of_job(cls, checks: Checks, size: Size | None, megapixels: int) -> Self:
        """The settings of a job's checks, for images of this size."""
        return cls(
            size=size if checks.size else None,
            any_size=not checks.size,
            black=checks.black,
            flat=checks.flat,
            megapixels=megapixels,
            noise=checks.noise,
            black_level=checks.black_level,
            flat_level=checks.flat_level,
            noise_level=checks.noise_level,
            duplicates=checks.duplicates,
        )

    def for_size(self, size: Size | None) -> Self:
        """The same settings for an image with a size of its own; None keeps the job's."""
        return self if size is None or self.any_size else replace(self, size=size)


@dataclass(frozen=True, slots=True)
class Inspection:
    """Facts about an accepted image: width and height in pixels, and reggen's note, empty when it has none.

    ``has_graph``: ComfyUI's own metadata are in it. ``is_16_bit``: it is grey in 16 bits. ``phashes``: the hashes under
    which it is looked for among others; empty where nobody asked for them, or it shows too little to compare.
    """

    width: int
    height: int
    note: Note
    has_graph: bool = False
    is_16_bit: bool = False
    phashes: tuple[int, ...] = field(default=(), compare=False)

    @property
    def phash(self) -> int | None:
        """The picture's own hash, under which later pictures find it."""
        return self.phashes[0] if self.phashes else None

    @property
    def phash_text(self) -> str | None:
        """The same hash as the ledger writes it."""
        return f"{self.phashes[0]:016x}" if self.phashes else None


def inspect(path: Path, name: str, check_settings: CheckSettings, kind: str = "png") -> Inspection:
    """Decode the image at ``path`` and check it. Raises BadImage, named ``name``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we count the pixels ourselves
            with opened(path) as file, Image.open(file, formats=[_PILLOW_NAMES[kind]]) as image:
                return _inspect(image, path, name, check_settings)
    except UnidentifiedImageError:
        raise BadImage(name, f"is not a {kind} file (it begins with {_first_bytes(path)})", torn=True) from None
    except Image.DecompressionBombError:
        raise BadImage(name, "has far more pixels than any training image") from None
    except DECODE_ERRORS as error:
        if path.is_dir():
            raise BadImage(name, "is a folder, not a file", torn=True) from None
        raise BadImage(name, f"cannot be decoded: {getattr(error, 'strerror', None) or error}", torn=True) from None


def _inspect(image: Image.Image, path: Path, name: str, check_settings: CheckSettings) -> Inspection:
    width, height = image.size
    if width * height > check_settings.megapixels * 1_000_000:
        raise BadImage(name, f"has {size_text(image.size)} pixels, more than limits.megapixels allows")
    if check_settings.size and image.size != check_settings.size:
        remedy = "for a workflow that upscales set [checks] size = false"
        sizes = f"is {size_text(image.size)} where {size_text(check_settings.size)} was asked for"
        raise WrongSizeImage(name, f"{sizes}; {remedy}")
    image.load()
    if image.format == "PNG":
        _require_whole(path, name)
    picture = eight_bit(image)
    if fault := _blank(picture, check_settings):
        raise BadImage(name, fault)
    found = phashes(picture) if check_settings.duplicates else ()
    return Inspection(width, height, _note(image), "prompt" in image.info, is_16_bit_grey(image), phashes=found)


def _blank(picture: Image.Image, check_settings: CheckSettings) -> str:
    """The words for a picture that shows nothing; an empty string for one that shows something."""
    statistics = ImageStat.Stat(picture)
    if check_settings.black and max(high for _, high in statistics.extrema) <= check_settings.black_level:
        return "is black"
    if check_settings.flat and max(statistics.stddev) <= check_settings.flat_level:
        return "is of one colour"
    if check_settings.noise and roughness(picture) > check_settings.noise_level:
        return "is nothing but noise"
    return ""


def roughness(picture: Image.Image) -> float:
    """The difference of neighbours in the picture's middle, as a part of the whole picture's standard deviation.

    Along rows or along columns, where it is less. So grain on a plain wall is not noise when the picture shows more.
    """
    grey = picture.convert("L")
    deviation = ImageStat.Stat(grey).stddev[0]
    if not deviation:
        return 0.0
    width, height = grey.size
    left, top = max(0, (width - _MIDDLE) // 2), max(0, (height - _MIDDLE) // 2)
    middle = grey.crop((left, top, min(width, left + _MIDDLE), min(height, top + _MIDDLE)))
    wide, high = middle.size
    across = ImageChops.difference(middle.crop((1, 0, wide, high)), middle.crop((0, 0, wide - 1, high)))
    down = ImageChops.difference(middle.crop((0, 1, wide, high)), middle.crop((0, 0, wide, high - 1)))
    return float(min(ImageStat.Stat(across).mean[0], ImageStat.Stat(down).mean[0]) / deviation)


def _note(image: Image.Image) -> Note:
    """The note that reggen wrote into the file: a text of the PNG, or in EXIF's ImageDescription."""
    text = image.info.get("reggen") or image.getexif().get(DESCRIPTION)
    if not isinstance(text, str):
        return {}
    try:
        note = json.loads(text.removeprefix("reggen:"))
    except (ValueError, RecursionError):
        return {}
    keys = ("index", "take", "seed", "batch")
    return {key: note[key] for key in keys if _is_number(note.get(key))} if isinstance(note, dict) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LIMIT


def _require_whole(path: Path, name: str) -> None:
    """Raise BadImage for a PNG that Pillow forgives and a trainer's decoder may not."""
    with opened(path) as file:
        try:
            whole = is_whole_png(file, path.stat().st_size)
        except ValueError as error:
            raise BadImage(name, f"is damaged: {error}", torn=True) from None
    if not whole:
        raise BadImage(name, "is cut off: the end of the PNG is missing", torn=True)


def _first_bytes(path: Path) -> str:
    with opened(path) as file:
        head = file.read(16)
    return repr(head.decode("ascii", "replace")) if head else "nothing: it is empty"
