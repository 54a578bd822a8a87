"""The caption files beside the images of a folder: read, written, moved, and set aside. Blocking."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from reggen.dataset.folder import Folder
from reggen.dataset.storage import storage_errors
from reggen.files import opened, write_whole

CAPTIONS = (".caption", ".txt")
"""What trainers read beside an image."""

_TINY = 4  # bytes of the largest caption that is looked at for being blank


class CaptionFiles:
    """The captions in a folder. ``name`` is a slot's; an extension begins with its dot."""

    def __init__(self, folder: Folder) -> None:
        self._folder, self._base = folder, f"{folder.images}{os.sep}"

    def file(self, name: str, extension: str) -> Path:
        """Where a caption lies or will lie."""
        return self._folder.images / f"{name}{extension}"

    def is_there(self, name: str, extension: str) -> bool:
        """Whether it has a word in it; only a tiny file is read for that."""
        file = f"{self._base}{name}{extension}"
        try:
            found = os.stat(file)  # noqa: PTH116 - of each image of a large set: a Path takes longer than that
        except FileNotFoundError:  # or a link to nowhere
            return False
        except OSError as error:
            with storage_errors("reading", Path(file)):
                raise error from None
        if not stat.S_ISREG(found.st_mode):  # a folder, which no trainer reads
            return False
        return found.st_size > _TINY or (found.st_size > 0 and bool(self.text(name, extension)))

    def text(self, name: str, extension: str) -> str:
        """What it says; empty where there is none, or what lies there is no file."""
        file = self.file(name, extension)
        with storage_errors("reading", file):
            try:
                if file.exists() and not file.is_file():
                    return ""
                with opened(file) as stream:
                    text = stream.read().decode("utf-8", "replace")
                return text.replace("\r\n", "\n").replace("\r", "\n").strip()
            except FileNotFoundError:
                return ""

    def write(self, name: str, text: str, extension: str) -> None:
        """Put it beside its image, durably, before or after it. ``text`` must not be empty."""
        if not text.strip():
            raise ValueError(f"the caption of {name} is empty, which would end a training")
        target, part = self.file(name, extension), self._folder.parts / f"{name}{extension}.part"
        with storage_errors("writing", target):
            write_whole(target, text.encode(), part=part, durable=True)

    def clear_folder(self, name: str, extension: str) -> str:
        """Set aside what lies in a caption's place and is no file; its name, or nothing."""
        file = self.file(name, extension)
        if not file.exists() or file.is_file():
            return ""
        self._folder.set_aside(file)
        return file.name

    def move(self, name: str, old: str, new: str) -> None:
        """Give it another ending."""
        with storage_errors("renaming the caption of", self._folder.file(name)):
            self.file(name, old).replace(self.file(name, new))

    def clear(self, name: str, text: str = "", keep: str = "") -> list[str]:
        """Make room for the caption ``text``, which ends with ``keep``: set aside what says anything else.

        So is what is no file. What is empty or says the same goes. Returns the names of what was set aside, as they
        were.
        """
        aside = []
        for extension in CAPTIONS:
            file = self.file(name, extension)
            said = self.text(name, extension)
            if (said and said != text.strip()) or (file.exists() and not file.is_file()):
                self._folder.set_aside(file)
                aside.append(file.name)
            elif extension != keep or not said:
                with storage_errors("removing the old caption", file):
                    file.unlink(missing_ok=True)
        return aside
