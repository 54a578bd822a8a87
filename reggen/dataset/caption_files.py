"""The caption files beside the images of a folder: read, written, renamed, and set aside. Blocking."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from reggen.dataset.folder import Folder
from reggen.dataset.storage import storage_errors
from reggen.files import opened, write_whole

CAPTIONS = (".caption", ".txt")
"""Extensions of the files that trainers read beside an image."""

_TINY = 4  # bytes up to which a file is read to see whether it is blank


class CaptionFiles:
    """The captions in a folder. ``name`` is that of a slot; an extension begins with its dot.

    Every method raises StorageError. No list of the files is kept: memory does not grow with the folder.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder, self._base = folder, f"{folder.images}{os.sep}"

    def file(self, name: str, extension: str) -> Path:
        """The path of a caption."""
        return self._folder.images / f"{name}{extension}"

    def has_text(self, name: str, extension: str) -> bool:
        """True for a caption that is not blank; only a tiny file is read for that."""
        file = f"{self._base}{name}{extension}"
        try:
            found = os.stat(file)  # noqa: PTH116 - for each image of a large set, where a Path takes longer than this
        except FileNotFoundError:  # or a broken link
            return False
        except OSError as error:
            with storage_errors("reading", Path(file)):
                raise error from None
        if not stat.S_ISREG(found.st_mode):  # a folder, which no trainer reads
            return False
        return found.st_size > _TINY or (found.st_size > 0 and bool(self.read(name, extension)))

    def read(self, name: str, extension: str) -> str:
        """The caption, without white space around it; empty for no file, and for what is not a file."""
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
        """Write a caption durably, before or after its image. ``text`` must not be blank: that would end a training."""
        if not text.strip():
            raise ValueError(f"the caption of {name} is empty, which would end a training")
        target, part = self.file(name, extension), self._folder.parts / f"{name}{extension}.part"
        with storage_errors("writing", target):
            write_whole(target, text.encode(), part=part, durable=True)

    def rename(self, name: str, old: str, new: str) -> None:
        """Give a caption another extension."""
        with storage_errors("renaming the caption of", self._folder.file(name)):
            self.file(name, old).replace(self.file(name, new))

    def clear_folder(self, name: str, extension: str) -> str:
        """Set aside a folder, or anything else that is not a file, in a caption's place; its name, or ""."""
        file = self.file(name, extension)
        if not file.exists() or file.is_file():
            return ""
        self._folder.set_aside(file)
        return file.name

    def clear(self, name: str, text: str = "", keep: str = "") -> list[str]:
        """Make room for the caption ``text`` with the extension ``keep``; the names of the files set aside.

        A caption that differs is set aside, and so is what is not a file. A blank one, and one that says the same
        under another extension, is deleted.
        """
        set_aside = []
        for extension in CAPTIONS:
            file = self.file(name, extension)
            current = self.read(name, extension)
            if (current and current != text.strip()) or (file.exists() and not file.is_file()):
                self._folder.set_aside(file)
                set_aside.append(file.name)
            elif extension != keep or not current:
                with storage_errors("removing the old caption", file):
                    file.unlink(missing_ok=True)
        return set_aside
