"""The output and temp folders: names, counters, and the picture of each file. No real files.

A file is kept as the picture it shows and is painted when somebody asks for it, so that a night's
worth of them costs no memory. Painting is deterministic: the same file has the same bytes each time.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from reggen.sim.state.graph import PaintedPicture

FOLDERS = ("output", "temp", "input")


class OutsideError(Exception):
    """A filename prefix that leads out of the output folder."""


@dataclass(frozen=True, slots=True)
class File:
    """One saved picture. `text` is what stands in the PNG beside the pixels."""

    name: str
    picture: PaintedPicture
    text: tuple[tuple[str, str], ...]
    saved_at: float


@dataclass(slots=True)
class Disk:
    """The files of one server, by (folder, subfolder, name)."""

    files: dict[tuple[str, str, str], File] = field(default_factory=dict)
    _highest: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def save(
        self,
        folder: str,
        prefix: str,
        pictures: Iterable[PaintedPicture],
        text: tuple[tuple[str, str], ...],
        now: float,
    ) -> list[dict[str, str]]:
        """Save pictures under `prefix` with consecutive numbers; return their entries in `images`.

        The first number is the highest one in use plus one. Raises OutsideError if the prefix leads out.
        """
        pictures = list(pictures)
        subfolder, name = self._place(_filled(prefix, pictures[0], now))
        entries = []
        for picture in pictures:
            number = self._next(folder, subfolder, name)
            filename = f"{name}_{number:05}_.png"
            self.files[folder, subfolder, filename] = File(filename, picture, text, now)
            self._highest[folder, subfolder, name] = number
            entries.append({"filename": filename, "subfolder": subfolder, "type": folder})
        return entries

    def find(self, folder: str, subfolder: str, name: str) -> File | None:
        """The file of that name, or None."""
        return self.files.get((folder, "" if subfolder == "." else subfolder, name))

    def another(self, file: File) -> File:
        """A file of another prompt: the newest, or else one that another client seems to have saved.

        Not of the same seed: two pictures of one batch carry the same note and could not be told apart.
        """
        others = [other for other in self.files.values() if other.picture.seed != file.picture.seed]
        if others:
            return others[-1]
        picture = replace(file.picture, text="somebody else's", seed=file.picture.seed ^ 0x5A5A5A5A)
        return File("ComfyUI_00001_.png", picture, (("prompt", "{}"),), file.saved_at)

    def delete(self, folder: str, subfolder: str, name: str) -> None:
        """Remove a file; its number is used again if it was the highest."""
        del self.files[folder, subfolder, name]
        self._highest.clear()

    def wipe_temp(self) -> None:
        """Empty the temp folder, as a server does when it starts."""
        self.files = {key: file for key, file in self.files.items() if key[0] != "temp"}
        self._highest.clear()

    def _next(self, folder: str, subfolder: str, name: str) -> int:
        key = folder, subfolder, name
        if key not in self._highest:
            self._highest[key] = max(
                (_number(filename, name) for kind, sub, filename in self.files if (kind, sub) == (folder, subfolder)),
                default=0,
            )
        return self._highest[key] + 1

    @staticmethod
    def _place(prefix: str) -> tuple[str, str]:
        subfolder, name = posixpath.split(posixpath.normpath(prefix))
        if subfolder.startswith(("/", "..")):
            raise OutsideError(prefix)
        return subfolder, name


def _number(filename: str, name: str) -> int:
    """The counter in a file name; 0 if the file was not saved under this prefix."""
    if not filename.startswith(f"{name}_"):
        return 0
    digits = filename[len(name) + 1 :].split(".", maxsplit=1)[0].split("_", maxsplit=1)[0]
    return int(digits) if digits.isdecimal() else 0


def _filled(prefix: str, picture: PaintedPicture, now: float) -> str:
    """The prefix with %width%, %height% and the parts of the date replaced."""
    if "%" not in prefix:
        return prefix
    day = time.localtime(now)
    words = {
        "width": str(picture.width),
        "height": str(picture.height),
        "year": str(day.tm_year),
        "month": f"{day.tm_mon:02}",
        "day": f"{day.tm_mday:02}",
        "hour": f"{day.tm_hour:02}",
        "minute": f"{day.tm_min:02}",
        "second": f"{day.tm_sec:02}",
    }
    for word, value in words.items():
        prefix = prefix.replace(f"%{word}%", value)
    return prefix
