"""The folders of one dataset, and the three steps that make a part file an image. Blocking.

    root/                              the trainer's --reg_data_dir
      1_anime_character/               images, their captions, and nothing else
      .reggen/1_anime_character/       ledger.sqlite, run.log, report.json, lock, parts/, rejected/

No trainer reads ``.reggen``. It is on the same filesystem as the images, so a part file becomes an image by a rename.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from reggen.dataset.latent_caches import LatentCaches
from reggen.dataset.part import Part
from reggen.dataset.storage import storage_errors
from reggen.files import flush_folder, free_name
from reggen.images.formats import OutputFormat
from reggen.job.dataset import Dataset


class Folder:
    """The folders of one dataset. Names come from the plan alone, never from a server's answer."""

    def __init__(self, dataset: Dataset) -> None:
        self.images, self.state = dataset.folder, dataset.state
        self.parts, self.rejected = self.state / "parts", self.state / "rejected"
        self.prefix, self.ending, self.output_format = dataset.prefix, dataset.format, OutputFormat.of_job(dataset)
        self.caches = LatentCaches(self.images, dataset.prefix)

    def file(self, name: str) -> Path:
        """The path of a slot's image."""
        return self.images / f"{name}.{self.ending}"

    def prepare(self) -> None:
        """Make the folders, delete part files of earlier runs, and read which latent caches there are.

        Call it while holding the dataset. Raises StorageError.
        """
        with storage_errors("preparing", self.state):
            self.images.mkdir(parents=True, exist_ok=True)
            self.delete_parts()
            self.parts.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(self.rejected) and not self.rejected.is_dir():  # now, rather than hours later
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.rejected))
            self.caches.scan()

    def delete_report(self) -> None:
        """Delete report.json: it belongs to an earlier run. Raises StorageError."""
        with storage_errors("preparing", self.state):
            (self.state / "report.json").unlink(missing_ok=True)

    def delete_parts(self) -> None:
        """Delete all part files, as far as the disk allows it."""
        shutil.rmtree(self.parts, ignore_errors=True)

    def set_aside(self, path: Path) -> Path:
        """Move a file that must not stay in the dataset to ``rejected/``; its path there. Raises StorageError."""
        with storage_errors("setting aside", path):
            self.rejected.mkdir(parents=True, exist_ok=True)
            return path.replace(free_name(self.rejected, path.name))

    def sync(self, part: Part) -> None:
        """Flush the bytes of a part file to the disk: the first of three steps, see `place`. Raises StorageError."""
        with storage_errors("saving", part.path), part.path.open("rb+") as file:
            os.fsync(file.fileno())

    def place(self, part: Part, name: str) -> Path:
        """Make a part file the image of a slot; its path. Raises StorageError.

        The order makes it safe: the bytes reach the disk (`sync`), then the name appears, then the folder is flushed
        (`flush`), once for all images placed together. Latent caches of the slot's earlier picture are removed first.
        """
        target = self.file(name)
        self.caches.drop(name)
        with storage_errors("saving", target):
            if target.exists():  # somebody put one here during the run; nothing is ever overwritten
                self.set_aside(target)
            return part.path.replace(target)

    def flush(self) -> None:
        """Flush the names in the image folder to the disk. Raises StorageError."""
        with storage_errors("saving", self.images):
            flush_folder(self.images)

    def free_bytes(self) -> int:
        """Free space of the filesystem, in bytes. Raises StorageError."""
        path = self.images
        while not path.exists() and path.parent != path:
            path = path.parent
        with storage_errors("reading the free space at", path):
            return shutil.disk_usage(path).free
