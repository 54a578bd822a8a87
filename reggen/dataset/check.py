"""The checks an image passes before it enters the dataset. Blocking: call them in a thread.

kohya reads only the header of an image before it trains, so a torn file fails hours later: everything
is decoded here, whole.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageStat, UnidentifiedImageError

from reggen.errors import BadImage

BLACK = 8  # no channel above this: a picture of NaNs, or a safety filter's
FLAT = 1.0  # standard deviation of every channel below this
_MOST_EXIF = 60_000  # bytes; a JPEG holds no more than 65,533 in all
_MODEL, _DESCRIPTION = 0x0110, 0x010E  # EXIF tags
Note = dict[str, int]
"""Slot, take and seed ("index", "take", "seed") of the order a picture was made for."""

FORMATS = {"png": "PNG", "webp": "WEBP", "jpg": "JPEG"}


@dataclass(frozen=True, slots=True)
class Demands:
    """What an image must be. ``size`` in pixels, None for any; the flags turn single checks off."""

    size: tuple[int, int] | None
    any_size: bool = False
    black: bool = True
    flat: bool = True
    megapixels: int = 100
    black_level: int = BLACK
    flat_level: float = FLAT

    def of(self, size: tuple[int, int] | None) -> Demands:
        """The same of an image with a size of its own; where any size will do, it does."""
        return self if size is None or self.any_size else replace(self, size=size)


@dataclass(frozen=True, slots=True)
class Finding:
    """What an accepted image is: width and height in pixels, and the note reggen sent along, empty when it has none.

    ``has_graph``: ComfyUI's own metadata are in it.
    """

    width: int
    height: int
    note: Note
    has_graph: bool = False


def inspect(path: Path, name: str, demands: Demands, kind: str = "png") -> Finding:
    """Decode the image at ``path`` and hold it against ``demands``. Raises BadImage, named ``name``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we count the pixels ourselves
            with Image.open(path, formats=[FORMATS[kind]]) as image:
                return _inspect(image, path, name, demands)
    except UnidentifiedImageError:
        raise BadImage(name, f"is not a {kind} file (it begins with {_head(path)})", torn=True) from None
    except Image.DecompressionBombError:
        raise BadImage(name, "has far more pixels than any training image") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise BadImage(name, f"cannot be decoded: {error}", torn=True) from None


def _inspect(image: Image.Image, path: Path, name: str, demands: Demands) -> Finding:
    width, height = image.size
    if width * height > demands.megapixels * 1_000_000:
        raise BadImage(name, f"has {width}x{height} pixels, more than limits.megapixels allows")
    if demands.size and (width, height) != demands.size:
        asked = "x".join(map(str, demands.size))
        cure = "a workflow that upscales wants [checks] size = false"
        raise BadImage(name, f"is {width}x{height} where {asked} was asked for; {cure}")
    image.load()
    if image.format == "PNG" and not _ends_well(path):
        raise BadImage(name, "is cut off: the end of the PNG is missing", torn=True)
    picture = image.convert("RGB") if image.mode not in {"RGB", "L"} else image
    extrema = picture.getextrema()
    ranges = extrema if isinstance(extrema[0], tuple) else (extrema,)
    if demands.black and max(high for _, high in ranges) <= demands.black_level:
        raise BadImage(name, "is black")
    if demands.flat and max(ImageStat.Stat(picture).stddev) < demands.flat_level:
        raise BadImage(name, "is of one colour")
    return Finding(width, height, _note(image), has_graph="prompt" in image.info)


def _note(image: Image.Image) -> Note:
    """What reggen wrote into the file: a text of the PNG, or in EXIF's ImageDescription."""
    text = image.info.get("reggen") or image.getexif().get(_DESCRIPTION)
    if not isinstance(text, str):
        return {}
    try:
        note = json.loads(text.removeprefix("reggen:"))
    except ValueError:
        return {}
    keys = ("index", "take", "seed")
    return {key: note[key] for key in keys if isinstance(note.get(key), int)} if isinstance(note, dict) else {}


def _ends_well(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-12, 2)
        return file.read(8)[4:] == b"IEND"


def _head(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(16)
    return repr(head.decode("ascii", "replace")) if head else "nothing: it is empty"


def convert(source: Path, kind: str, quality: int | None = None) -> Path:
    """Write the image anew beside ``source``, its graph kept in EXIF.

    As webp, lossless without a ``quality``; or as jpg, of quality 95 without one.
    """
    target = source.with_suffix(f".{kind}.part")
    with Image.open(source) as image, target.open("wb") as file:
        exif = image.getexif()
        for tag, key in ((_DESCRIPTION, "reggen"), (_MODEL, "prompt")):  # where ComfyUI itself keeps its graph
            text = image.info.get(key)
            if isinstance(text, str) and len(text.encode()) < _MOST_EXIF:
                exif[tag] = f"{key}:{text}"
        picture = image.convert("RGB")
        if kind == "webp":
            picture.save(file, "WEBP", lossless=quality is None, quality=quality or 80, method=4, exif=exif)
        else:
            picture.save(file, "JPEG", quality=quality or 95, subsampling=0, exif=exif)
    return target
