"""The checks an image passes before it enters the dataset. Blocking: call them in a thread.

kohya reads only the header of an image before it trains, so a torn file fails hours later: everything
is decoded here, whole.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from PIL import Image, ImageChops, ImageStat, UnidentifiedImageError

from reggen.errors import BadImage
from reggen.files import opened
from reggen.images.damage import DAMAGE
from reggen.images.decode import is_deep, is_whole, plain
from reggen.images.formats import DESCRIPTION
from reggen.images.phash import phashes
from reggen.job.models import Checks

BLACK = 8  # no channel above this: a picture of NaNs, or a safety filter's
FLAT = 1.0  # no channel's standard deviation above this
NOISE = 0.8  # neighbours differ by no more than this part of the deviation; of pure noise, by 1.13
_LOOKED_AT = 256  # pixels each way, around the middle: scaled down, noise would be none
_MOST = 1 << 63  # what a ledger holds
Note = dict[str, int]
"""Slot, take, seed and batch ("index", "take", "seed", "batch") of the order a picture was made for."""

FORMATS = {"png": "PNG", "webp": "WEBP", "jpg": "JPEG"}


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """What an image must be. ``size`` in pixels, None for any; the flags turn single checks off.

    ``duplicates``: the hashes by which the image can be told from others are wanted in the finding.
    """

    size: tuple[int, int] | None
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
    def by(cls, checks: Checks, size: tuple[int, int] | None, megapixels: int) -> Self:
        """As a job's checks say, of images of this size."""
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

    def of(self, size: tuple[int, int] | None) -> Self:
        """The same of an image with a size of its own; where any size will do, it does."""
        return self if size is None or self.any_size else replace(self, size=size)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an accepted image is: width and height in pixels, and the note reggen sent along, empty when it has none.

    ``has_graph``: ComfyUI's own metadata are in it. ``deep``: it is grey in 16 bits. ``phashes``: the hashes under
    which it is looked for among others; empty where nobody asked for them, or it shows too little to compare.
    """

    width: int
    height: int
    note: Note
    has_graph: bool = False
    deep: bool = False
    phashes: tuple[int, ...] = field(default=(), compare=False)

    @property
    def hash(self) -> int | None:
        """The picture's own hash, to be remembered."""
        return self.phashes[0] if self.phashes else None

    @property
    def likeness(self) -> str | None:
        """The same as the ledger writes it."""
        return f"{self.phashes[0]:016x}" if self.phashes else None


def inspect(path: Path, name: str, check_settings: CheckSettings, kind: str = "png") -> Inspection:
    """Decode the image at ``path`` and hold it against ``check_settings``. Raises BadImage, named ``name``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we count the pixels ourselves
            with opened(path) as file, Image.open(file, formats=[FORMATS[kind]]) as image:
                return _inspect(image, path, name, check_settings)
    except UnidentifiedImageError:
        raise BadImage(name, f"is not a {kind} file (it begins with {_head(path)})", torn=True) from None
    except Image.DecompressionBombError:
        raise BadImage(name, "has far more pixels than any training image") from None
    except DAMAGE as error:
        if path.is_dir():
            raise BadImage(name, "is a folder, not a file", torn=True) from None
        raise BadImage(name, f"cannot be decoded: {getattr(error, 'strerror', None) or error}", torn=True) from None


def _inspect(image: Image.Image, path: Path, name: str, check_settings: CheckSettings) -> Inspection:
    width, height = image.size
    if width * height > check_settings.megapixels * 1_000_000:
        raise BadImage(name, f"has {width}x{height} pixels, more than limits.megapixels allows")
    if check_settings.size and (width, height) != check_settings.size:
        asked = "x".join(map(str, check_settings.size))
        cure = "a workflow that upscales wants [checks] size = false"
        raise BadImage(name, f"is {width}x{height} where {asked} was asked for; {cure}")
    image.load()
    if image.format == "PNG":
        _demand_whole(path, name)
    picture = plain(image)
    if why := _empty(picture, check_settings):
        raise BadImage(name, why)
    found = phashes(picture) if check_settings.duplicates else ()
    return Inspection(width, height, _note(image), "prompt" in image.info, is_deep(image), phashes=found)


def _empty(picture: Image.Image, check_settings: CheckSettings) -> str:
    """Why there is nothing on the picture; an empty string when there is something."""
    facts = ImageStat.Stat(picture)
    if check_settings.black and max(high for _, high in facts.extrema) <= check_settings.black_level:
        return "is black"
    if check_settings.flat and max(facts.stddev) <= check_settings.flat_level:
        return "is of one colour"
    if check_settings.noise and roughness(picture) > check_settings.noise_level:
        return "is nothing but noise"
    return ""


def roughness(picture: Image.Image) -> float:
    """How much neighbours in its middle differ, as a part of the whole picture's standard deviation.

    Along rows or along columns, where it is less. Grain on a plain wall is no noise when there is more to see.
    """
    grey = picture.convert("L")
    deviation = ImageStat.Stat(grey).stddev[0]
    if not deviation:
        return 0.0
    width, height = grey.size
    left, top = max(0, (width - _LOOKED_AT) // 2), max(0, (height - _LOOKED_AT) // 2)
    middle = grey.crop((left, top, min(width, left + _LOOKED_AT), min(height, top + _LOOKED_AT)))
    wide, high = middle.size
    across = ImageChops.difference(middle.crop((1, 0, wide, high)), middle.crop((0, 0, wide - 1, high)))
    down = ImageChops.difference(middle.crop((0, 1, wide, high)), middle.crop((0, 0, wide, high - 1)))
    return float(min(ImageStat.Stat(across).mean[0], ImageStat.Stat(down).mean[0]) / deviation)


def _note(image: Image.Image) -> Note:
    """What reggen wrote into the file: a text of the PNG, or in EXIF's ImageDescription."""
    text = image.info.get("reggen") or image.getexif().get(DESCRIPTION)
    if not isinstance(text, str):
        return {}
    try:
        note = json.loads(text.removeprefix("reggen:"))
    except (ValueError, RecursionError):
        return {}
    keys = ("index", "take", "seed", "batch")
    return {key: note[key] for key in keys if _is_count(note.get(key))} if isinstance(note, dict) else {}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


def _demand_whole(path: Path, name: str) -> None:
    """Decoders differ in what they forgive: one that a trainer uses may not."""
    with opened(path) as file:
        try:
            whole = is_whole(file, path.stat().st_size)
        except ValueError as error:
            raise BadImage(name, f"is damaged: {error}", torn=True) from None
    if not whole:
        raise BadImage(name, "is cut off: the end of the PNG is missing", torn=True)


def _head(path: Path) -> str:
    with opened(path) as file:
        head = file.read(16)
    return repr(head.decode("ascii", "replace")) if head else "nothing: it is empty"
