"""What the doctor can find: each kind with its weight, what kohya makes of it, and a remedy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple


class Severity(StrEnum):
    """How bad it is. An error: the training would fail or be spoilt."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class FindingKind(NamedTuple):
    """What all findings of one kind have in common. ``mended``: ``--fix`` sees to it."""

    severity: Severity
    what: str
    remedy: str
    mended: bool = False


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
KINDS: dict[str, FindingKind] = {
    # where the trainer looks
    "level": FindingKind(_E, "as --reg_data_dir kohya finds no images in it", ""),
    "not-in-config": FindingKind(
        _E,
        "no subset of the config that has is_reg = true names this folder: the trainer does not read it",
        "add it under [[datasets.subsets]] with is_reg, image_dir, num_repeats and class_tokens",
    ),
    # images
    "image-empty": FindingKind(
        _E,
        "files of 0 bytes; kohya ends with ZeroDivisionError at its start, and names no file",
        "delete them, or set them aside with --fix",
        mended=True,
    ),
    "image-unreadable": FindingKind(
        _E,
        "no images, whatever their names; kohya ends with ZeroDivisionError at its start, and names no file",
        "delete them; a web page saved as an image is a failed download",
    ),
    "image-truncated": FindingKind(
        _E,
        "torn images; kohya reads only the header at its start, and ends with OSError when it loads or caches them",
        "delete them, or set them aside with --fix",
        mended=True,
    ),
    "image-cut": FindingKind(
        _W, "PNGs whose end is missing, though they still decode", "save them anew, or delete them"
    ),
    "image-vast": FindingKind(
        _E, "more pixels than Pillow decodes; kohya ends with DecompressionBombError", "scale them down"
    ),
    "image-black": FindingKind(
        _E,
        "black images; they are trained on as they are",
        "delete them, or set them aside with --fix",
        mended=True,
    ),
    "image-flat": FindingKind(
        _W, "images of one colour; they are trained on as they are", "look at them, and delete them"
    ),
    "image-ending": FindingKind(
        _W,
        "images of another format than their ending says; kohya reads them by their content, other tools do not",
        "give them their true ending",
    ),
    "image-turned": FindingKind(
        _W,
        "images that EXIF tells a viewer to turn; kohya does not turn them and trains on them lying on their side",
        "turn the pixels themselves, for example with exiftran or by saving them anew",
    ),
    "image-bucket": FindingKind(_E, "images for which kohya has no bucket", "delete them, or make them larger"),
    "image-changed": FindingKind(
        _W,
        "images whose bytes are not those that reggen wrote, in files as long as they were: the disk has damaged them, "
        "or somebody changed them",
        "look at them; set them aside with --fix, or reject those that are no good, and the next run makes others",
        mended=True,
    ),
    "image-edited": FindingKind(
        _N,
        "images of another size in bytes than reggen wrote: somebody changed them, or they are damaged",
        "run the job: it checks them anew, keeps those that pass, and makes the others again",
    ),
    "ledger-damaged": FindingKind(
        _W,
        "a ledger that cannot be read, so that nobody knows whether the images are as they were made",
        "run the job: it sets the ledger aside, checks the images and adopts them",
    ),
    "image-twin": FindingKind(_W, "the same bytes as another image of the set", "delete all but one of each"),
    "image-train-twin": FindingKind(
        _W, "the same bytes as an image of the training set, which is then trained on as its own prior", "delete them"
    ),
    "image-like": FindingKind(
        _W,
        "pictures that are, or look like, another image of the set; together they count for more than the others",
        "look at both and delete one; the next run makes another",
    ),
    "image-train-like": FindingKind(
        _W,
        "pictures that are, or look like, an image of the training set, which is then trained on as its own prior",
        "delete them; the next run makes others",
    ),
    # captions
    "caption-empty": FindingKind(
        _E,
        "captions of 0 bytes; kohya ends with AssertionError: caption file is empty",
        "delete them, so that the class tokens apply; --fix does",
        mended=True,
    ),
    "caption-not-utf8": FindingKind(
        _E, "captions that are not UTF-8; kohya ends with UnicodeDecodeError", "save them as UTF-8, or delete them"
    ),
    "caption-blank": FindingKind(
        _W,
        "captions whose first line is blank; kohya reads no other, and trains with an empty caption",
        "write the caption into the first line, or delete the file so that the class tokens apply",
    ),
    "caption-bom": FindingKind(
        _W,
        "captions that begin with a byte order mark, which kohya trains as part of the caption",
        "save them as UTF-8 without it; --fix does",
        mended=True,
    ),
    "caption-other": FindingKind(
        _W,
        "images whose caption is read from a file of another name: kohya cuts the last four parts between _ off a "
        "path that has five",
        "rename or move that file, or give the images captions of their own",
    ),
    "caption-unread": FindingKind(
        _W,
        "caption files with an ending that the trainer does not read",
        "give the trainer their ending with --caption_extension; those of a reg set may as well go",
    ),
    "caption-folder": FindingKind(
        _W,
        "folders where captions belong; kohya passes over them, and trains these images with the class tokens",
        "move them elsewhere and write the captions; a job that writes captions does both when it is run again",
    ),
    "caption-none": FindingKind(
        _W,
        "images with neither a caption nor class tokens; kohya trains them with an empty caption",
        "write class_tokens",
    ),
    "caption-orphan": FindingKind(_N, "captions without an image", "delete them"),
    "forbidden": FindingKind(
        _E,
        "captions or class tokens with words that must not be in a regularization set",
        "take the words out; of class tokens, rename the folder",
    ),
    # caches
    "cache-stale": FindingKind(
        _W,
        "caches that are older than what they were made of; kohya never compares the time, and trains on the old",
        "delete them; --fix does, and the trainer makes them anew",
        mended=True,
    ),
    "cache-orphan": FindingKind(
        _W,
        "caches without an image; an image that comes to bear the name is trained by them",
        "delete them; --fix does",
        True,
    ),
    "metadata-cache": FindingKind(
        _W,
        "with cache_info kohya reads names, sizes and captions from this file, and not what lies there now",
        "delete it before each training",
    ),
    "parts": FindingKind(
        _W, "half-written files; some trainers count every file of a folder", "delete them; --fix does", mended=True
    ),
    # folders
    "loose": FindingKind(
        _W, "images in the reg folder itself, which kohya ignores", "move them into a sub-folder N_words"
    ),
    "nested": FindingKind(_W, "folders with images within a class folder, which kohya ignores", "move the images up"),
    "unlisted": FindingKind(
        _W,
        "images whose ending kohya does not list; it takes png, jpg, jpeg, webp, bmp, all lower or all upper case",
        "rename or convert them",
    ),
    "folder-stray": FindingKind(
        _W,
        "folders whose names look like leftovers; kohya trains on every folder whose name begins with a number and _",
        "move them elsewhere, or rename them so that they do not begin with a number",
    ),
    "folder-skipped": FindingKind(
        _W,
        "folders with images that kohya passes over",
        "name them N_words, N being the repeats, or move them elsewhere",
    ),
    "folder-empty": FindingKind(_N, "folders without images, which kohya passes over", "delete them"),
    # use
    "steps": FindingKind(
        _N,
        "these bucket_reso_steps do not suit every model: kohya's train_network.py wants a multiple of 64, SDXL, SD3 "
        "and Flux one of 32",
        "keep 64 unless you know better",
    ),
    "no-training": FindingKind(
        _N,
        "without the training set nobody can say which images are used: all are taken as used once",
        "give --train or --config",
    ),
    "no-train-images": FindingKind(
        _E, "a [[datasets]] entry with reg images alone: kohya uses none of them", "put them beside their train images"
    ),
    "unused": FindingKind(_W, "images that are never used: there are more than the training needs", ""),
    "uneven": FindingKind(
        _N, "fewer images than the training needs: they are used several times, the first ones once more", ""
    ),
    "reg-bucket": FindingKind(
        _W,
        "buckets that hold reg images alone, so that batches of reg images alone are trained",
        "make the images in the sizes of the training set",
    ),
    "train-bucket": FindingKind(_N, "buckets of train images without a reg image", "make some in these sizes too"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. ``kind`` is a key of `KINDS`; ``files`` are the ones it holds for, by their whole paths.

    ``details`` is what is particular to it, in words; ``cure`` goes before the kind's own remedy.
    """

    kind: str
    files: tuple[Path, ...] = ()
    details: str = ""
    cure: str = ""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return KINDS[self.kind].severity

    @property
    def what(self) -> str:
        """What it means for the training."""
        return KINDS[self.kind].what

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return self.cure or KINDS[self.kind].remedy

    @property
    def mended(self) -> bool:
        """Does ``--fix`` see to it?"""
        return KINDS[self.kind].mended
