"""The doctor's findings: every kind with its severity, its effect on the training, and a remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple


class Severity(StrEnum):
    """The weight of a finding, the heaviest first. With an error the training would fail or be spoilt."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class FindingKind(NamedTuple):
    """The common part of all findings of one kind. ``fixable``: ``--fix`` applies the remedy."""

    severity: Severity
    what: str
    remedy: str
    fixable: bool = False


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
KINDS: dict[str, FindingKind] = {
    # folders that are examined
    "level": FindingKind(_E, "a folder in which kohya finds no images as --reg_data_dir", ""),
    "not-in-config": FindingKind(
        _E,
        "a folder that no subset of the config with is_reg = true names, so the trainer does not read it",
        "add it under [[datasets.subsets]] with is_reg, image_dir, num_repeats and class_tokens",
    ),
    # images
    "image-empty": FindingKind(
        _E,
        "images of 0 bytes; kohya stops at its start with ZeroDivisionError, and names no file",
        "delete them, or set them aside with --fix",
        fixable=True,
    ),
    "image-unreadable": FindingKind(
        _E,
        "files that are not images; kohya stops at its start with ZeroDivisionError, and names no file",
        "delete them; a web page saved as an image is a failed download",
    ),
    "image-truncated": FindingKind(
        _E,
        "images that are cut off; kohya reads only their headers at its start, and stops with OSError when it loads or "
        "caches them",
        "delete them, or set them aside with --fix",
        fixable=True,
    ),
    "image-cut": FindingKind(
        _W, "PNGs whose end is missing, though they still decode", "save them again in an image editor, or delete them"
    ),
    "image-vast": FindingKind(
        _E, "images of more pixels than Pillow decodes; kohya stops with DecompressionBombError", "scale them down"
    ),
    "image-black": FindingKind(
        _E,
        "black images; kohya trains on them as they are",
        "delete them, or set them aside with --fix",
        fixable=True,
    ),
    "image-flat": FindingKind(
        _W, "images of one colour; kohya trains on them as they are", "look at them, and delete them"
    ),
    "image-ending": FindingKind(
        _W,
        "images of another format than their ending says; kohya reads them by their content, other tools do not",
        "give them the ending of their format",
    ),
    "image-turned": FindingKind(
        _W,
        "images that EXIF tells viewers to rotate; kohya does not rotate them, and trains on them lying on their side",
        "rotate the pixels themselves, for example with exiftran or by saving them again",
    ),
    "image-bucket": FindingKind(_E, "images for which kohya has no bucket", "delete them, or make them larger"),
    "image-changed": FindingKind(
        _W,
        "images whose bytes are not those that reggen wrote, in files of the same length: the disk has damaged them, "
        "or somebody changed them",
        "look at them; set them aside with --fix, or reject the bad ones, and the next run makes others",
        fixable=True,
    ),
    "image-edited": FindingKind(
        _N,
        "images of another size in bytes than reggen wrote: somebody changed them, or they are damaged",
        "run the job: it checks them again, keeps those that pass, and makes the others again",
    ),
    "ledger-damaged": FindingKind(
        _W,
        "a ledger that cannot be read, so the images cannot be compared with what reggen wrote",
        "run the job: it sets the ledger aside, checks the images and adopts them",
    ),
    "image-duplicate": FindingKind(
        _W, "files with the same bytes as another image of the set", "delete all but one of each"
    ),
    "image-train-duplicate": FindingKind(
        _W, "files with the same bytes as a training image, which is then trained on as its own prior", "delete them"
    ),
    "image-near-duplicate": FindingKind(
        _W,
        "pictures that are, or look like, another image of the set; together they count for more than the others",
        "look at both and delete one; the next run makes another",
    ),
    "image-train-near-duplicate": FindingKind(
        _W,
        "pictures that are, or look like, a training image, which is then trained on as its own prior",
        "delete them; the next run makes others",
    ),
    # captions
    "caption-empty": FindingKind(
        _E,
        "captions of 0 bytes; kohya stops at its start with AssertionError: caption file is empty",
        "delete them, so that the class tokens apply; --fix does",
        fixable=True,
    ),
    "caption-not-utf8": FindingKind(
        _E,
        "captions that are not UTF-8; kohya stops at its start with UnicodeDecodeError",
        "save them as UTF-8, or delete them",
    ),
    "caption-blank": FindingKind(
        _W,
        "captions whose first line is blank; kohya reads no other line, and trains with an empty caption",
        "write the caption into the first line, or delete the file so that the class tokens apply",
    ),
    "caption-bom": FindingKind(
        _W,
        "captions that begin with a byte order mark, which kohya trains as part of the caption",
        "save them as UTF-8 without it; --fix does",
        fixable=True,
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
        "give the trainer their ending with --caption_extension, or delete them",
    ),
    "caption-folder": FindingKind(
        _W,
        "folders in the place of captions; kohya passes over them, and trains these images with the class tokens",
        "move them elsewhere and write the captions; a job that writes captions does both when it is run again",
    ),
    "caption-none": FindingKind(
        _W,
        "images with neither a caption nor class tokens; kohya trains them with an empty caption",
        "set class_tokens in the config, or name the folder N_words",
    ),
    "caption-orphan": FindingKind(_N, "captions without an image", "delete them"),
    "forbidden": FindingKind(
        _E,
        "captions or class tokens with words that must not be in a regularization set",
        "take the words out of the captions; for class tokens, rename the folder, or change class_tokens in the config",
    ),
    "forbidden-around": FindingKind(
        _E,
        "words that must not be in a regularization set, in the caption_prefix or caption_suffix that kohya puts "
        "around every caption of these folders",
        'write caption_prefix = "" and caption_suffix = "" in the reg subsets of a --dataset_config; `reggen config '
        "--for kohya-toml` prints one",
    ),
    # caches
    "cache-stale": FindingKind(
        _W,
        "caches that are older than the files they were made of; kohya never compares the time, and trains on the old",
        "delete them; --fix does, and the trainer makes new ones",
        fixable=True,
    ),
    "cache-orphan": FindingKind(
        _W,
        "caches without an image; an image that is given this name later is trained by them",
        "delete them; --fix does",
        fixable=True,
    ),
    "metadata-cache": FindingKind(
        _W,
        "a file from which kohya, with cache_info, reads names, sizes and captions, instead of from the folder",
        "delete it before each training",
    ),
    "parts": FindingKind(
        _W, "half-written files; some trainers count every file of a folder", "delete them; --fix does", fixable=True
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
        "folders that look like leftovers; kohya trains on every folder whose name begins with a number and _",
        "move them elsewhere, or rename them so that they do not begin with a number",
    ),
    "folder-skipped": FindingKind(
        _W,
        "folders with images that kohya passes over",
        "name them N_words, N being the repeats, or move them elsewhere",
    ),
    "folder-empty": FindingKind(_N, "folders without images, which kohya passes over", "delete them"),
    # use of the images
    "steps": FindingKind(
        _N,
        "bucket_reso_steps that do not suit every model: kohya's train_network.py requires a multiple of 64, its SDXL, "
        "SD3 and Flux scripts one of 32",
        "keep 64 unless your script takes another",
    ),
    "no-resolution": FindingKind(
        _N,
        "no resolution was given, which kohya requires, so buckets were not compared",
        "give --resolution, or write it into the config or the job's [training]",
    ),
    "no-training": FindingKind(
        _N,
        "no training set was given, so every image is taken as used once",
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
        "buckets that hold reg images alone, so some batches are of reg images alone",
        "make the images in the sizes of the training set",
    ),
    "enlarged": FindingKind(
        _W,
        "images are enlarged to fill their bucket, and kohya trains on the blur",
        "make reg images in the sizes of their buckets; take larger train images, a lower resolution, or "
        "bucket_no_upscale",
    ),
    "enlarged-little": FindingKind(
        _N,
        "images are enlarged a little to fill their bucket",
        "make reg images in the sizes of their buckets",
    ),
    "train-bucket": FindingKind(_N, "buckets of train images without a reg image", "make some in these sizes too"),
}
_ORDER = {kind: (list(Severity).index(common.severity), place) for place, (kind, common) in enumerate(KINDS.items())}


class Observation(NamedTuple):
    """One file or folder of which a kind of finding is true, and the details of this case."""

    kind: str
    path: Path
    details: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """All files of one kind of finding. ``kind`` is a key of `KINDS`; ``files`` are whole paths.

    ``details`` are the facts of this case, in words; ``own_remedy`` replaces the kind's remedy.
    """

    kind: str
    files: tuple[Path, ...] = ()
    details: str = ""
    own_remedy: str = ""

    @property
    def severity(self) -> Severity:
        """The weight of its kind."""
        return KINDS[self.kind].severity

    @property
    def what(self) -> str:
        """The files and their effect on the training, in words."""
        return KINDS[self.kind].what

    @property
    def remedy(self) -> str:
        """The thing to do about it."""
        return self.own_remedy or KINDS[self.kind].remedy

    @property
    def fixable(self) -> bool:
        """True where ``--fix`` applies the remedy."""
        return KINDS[self.kind].fixable


class FindingLog:
    """Observations gathered into findings. Memory grows with the files that something is wrong with."""

    def __init__(self) -> None:
        self._files: dict[str, list[Path]] = {}
        self._details: dict[str, str] = {}

    def add(self, kind: str, path: Path, details: str = "") -> None:
        """Gather one; a file is named once, and the details of a kind's first file are kept."""
        files = self._files.setdefault(kind, [])
        self._details.setdefault(kind, details)
        if not files or files[-1] != path:  # several entries may read a folder
            files.append(path)

    def add_all(self, observations: Iterable[Observation]) -> None:
        """Gather several."""
        for observation in observations:
            self.add(*observation)

    def findings(self) -> Iterator[Finding]:
        """One finding for each kind."""
        for kind, files in self._files.items():
            details = self._details[kind]
            first = f"{files[0].name}: " if details and len(files) > 1 else ""
            yield Finding(kind, tuple(files), first + details)


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings by severity, and within one severity in the order of `KINDS`."""
    return tuple(sorted(findings, key=lambda finding: _ORDER[finding.kind]))
