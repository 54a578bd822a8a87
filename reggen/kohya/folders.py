"""Names of folders and images: which of them kohya reads. Pure."""

from __future__ import annotations

import re

_MEANT = re.compile(r"(\d{1,4})(?:\s*[-.x_]\s*|\s+(?:x\s+)?)(\S.*)")
_LISTED = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
IMAGE_ENDINGS = frozenset(_LISTED) | {ending.upper() for ending in _LISTED}
"""The endings that kohya lists as images without plug-ins (train_util.py, IMAGE_EXTENSIONS); mixed case is not one."""


def folder_name(name: str) -> tuple[int, str] | None:
    """Repeats and class tokens of a sub-folder of a data dir, or None where kohya passes over it.

    config_util.py, generate_dreambooth_subsets_config_by_subdirs: the part before the first ``_`` is read by
    ``int``, so ``03_x``, `` 2_x`` and ``5`` count; below 1 it is skipped in silence, no integer with a warning.
    """
    number, _, class_tokens = name.partition("_")
    try:
        repeats = int(number)
    except ValueError:
        return None
    return (repeats, class_tokens) if repeats >= 1 else None


def suggested_name(name: str) -> str:
    """The name N_words that a folder which kohya passes over is meant to have: ``10-sks woman`` is 10_sks woman."""
    if match := _MEANT.fullmatch(name):
        return f"{max(1, int(match[1]))}_{match[2]}"
    return f"1_{name}"


def is_image(name: str) -> bool:
    """True for a file name that kohya lists as an image.

    train_util.py, glob_images: ``*`` and the ending, so dotfiles are not, nor is anything in a nested folder.
    """
    return not name.startswith(".") and any(name.endswith(ending) for ending in IMAGE_ENDINGS)
