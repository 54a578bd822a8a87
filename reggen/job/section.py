"""The base of all tables of a job file, and values that several tables have: paths, parts of file names."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator

# limits that every file system keeps
_NAME_BYTES = 255
_PATH_BYTES = 3_000  # with room for what is added to it
_PART_BYTES = 150  # of what becomes part of a name
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')

LONGEST_PROMPT = 20_000
"""Characters of a prompt."""


class Section(BaseModel):
    """A table of a job file: frozen; unknown keys are errors, and true and false are not taken for numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False)

    @field_validator("*", mode="before")
    @classmethod
    def _only_flags_are_booleans(cls, value: object, info: ValidationInfo) -> object:
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in {annotation, *get_args(annotation)}:
            raise ValueError(f"{str(value).lower()} is not allowed here")
        return value


def _expanded(path: Path) -> Path:
    if any(ord(letter) < 32 for letter in str(path)):
        raise ValueError("it has a control character; in TOML write Windows paths with / or in 'single quotes'")
    if max(map(_bytes, path.parts), default=0) > _NAME_BYTES:
        raise ValueError(f"a name in it is too long: file systems allow {_NAME_BYTES} bytes")
    try:
        found = path.expanduser()
    except RuntimeError:
        raise ValueError(f"unknown user in {path.parts[0]}") from None
    if _bytes(str(found)) > _PATH_BYTES:
        raise ValueError(f"it is too long: every system allows paths of {_PATH_BYTES:,} bytes")
    return found


def _file_name_part(value: str) -> str:
    if _bytes(value) > _PART_BYTES:
        raise ValueError(f"it is too long: as part of a file name it may have {_PART_BYTES} bytes")
    if not value or value != value.strip() or value.startswith(".") or value.endswith("."):
        raise ValueError("it must not be empty, nor begin or end with a space or a dot")
    if found := _FORBIDDEN.search(value):
        raise ValueError(f"it must not contain {found.group()!r}: it becomes part of a file name")
    return value


def _bytes(name: str) -> int:
    """Length of a name as the file system counts it: in bytes, on Windows in pairs of them."""
    return len(name.encode("utf-16-le", "surrogatepass")) // 2 if os.name == "nt" else len(os.fsencode(name))


ExpandedPath = Annotated[Path, AfterValidator(_expanded)]
"""A path with ~ replaced by the user's home."""
FileNamePart = Annotated[str, AfterValidator(_file_name_part)]
"""A text that may become part of a file or folder name on every system."""
