"""The folders of a dataset: part files, images, slots, caches, the lock."""

from __future__ import annotations

import errno
import os
import tracemalloc
from pathlib import Path

import pytest

from reggen.dataset.folder import Folder
from reggen.dataset.latent_caches import LatentCaches
from reggen.dataset.lock import lock_holder, locked
from reggen.dataset.part import Part
from reggen.dataset.slot_files import SlotFiles
from reggen.dataset.storage import storage_errors
from reggen.errors import DatasetLocked, StorageError
from reggen.job.dataset import Dataset


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(Dataset.model_validate({"root": tmp_path / "reg", "class": "thing", "count": 9}))
    made.prepare()
    return made


def part_of(folder: Folder, data: bytes) -> Part:
    """A part file with this content."""
    file = folder.parts / "reg_001.0.part"
    file.write_bytes(data)
    return Part.of(file)


def commit(folder: Folder, part: Part, name: str) -> None:
    """Make a part file an image."""
    folder.sync(part)
    folder.place(part, name)
    folder.flush()


def test_a_part_file_becomes_an_image_when_it_is_committed(folder: Folder) -> None:
    """Nothing is in the image folder before that, and nothing among the part files after it."""
    part = part_of(folder, b"abc")
    assert list(folder.images.iterdir()) == []
    commit(folder, part, "reg_001")
    assert (folder.images / "reg_001.png").read_bytes() == b"abc"
    assert list(folder.parts.iterdir()) == []


def test_a_commit_overwrites_nothing(folder: Folder) -> None:
    """A file that appeared in the slot during the run is set aside."""
    (folder.images / "reg_001.png").write_bytes(b"somebody's")
    commit(folder, part_of(folder, b"ours"), "reg_001")
    assert (folder.images / "reg_001.png").read_bytes() == b"ours"
    assert [file.read_bytes() for file in folder.rejected.iterdir()] == [b"somebody's"]


def test_a_commit_removes_the_caches_of_the_slot_and_of_no_other(folder: Folder) -> None:
    """reg_001*.npz is deleted, reg_0010*.npz stays."""
    for name in ("reg_001.npz", "reg_001_0064x0064_sd.npz", "reg_0010.npz", "reg_002_0064x0064_sd.npz"):
        (folder.images / name).touch()
    folder.prepare()
    commit(folder, part_of(folder, b"ours"), "reg_001")
    assert sorted(file.name for file in folder.images.glob("*.npz")) == ["reg_0010.npz", "reg_002_0064x0064_sd.npz"]


def test_latent_caches_take_no_memory_for_each_image(tmp_path: Path) -> None:
    """A trained set of a million images has a million caches; their names differ in the number alone."""
    for number in range(1, 1001):
        (tmp_path / f"reg_{number:04d}_0064x0064_sd.npz").touch()
    caches = LatentCaches(tmp_path, "reg")
    tracemalloc.start()
    try:
        caches.scan()
        assert tracemalloc.get_traced_memory()[0] < 10_000
    finally:
        tracemalloc.stop()
    caches.drop("reg_0500")
    assert len(list(tmp_path.iterdir())) == 999


def test_slots_have_numbers_of_any_width_and_other_images_are_named(folder: Folder) -> None:
    """Part files and other prefixes are none of the set; empty files are known by their size."""
    for name in ("reg_001.png", "reg_0003.png", "reg_099.png", "reg_004.png.part", "img_005.png", "reg_000.png"):
        (folder.images / name).write_bytes(b"x")
    (folder.images / "reg_002.png").touch()
    assert SlotFiles(folder).present(0) == (bytearray(), {-1, 0, 1, 2, 98})
    assert SlotFiles(folder).present(4) == (bytearray((1, 1, 1, 0)), {-1, 98})
    assert sorted(SlotFiles(folder).sizes()) == [(-1, 1), (0, 1), (1, 0), (2, 1), (98, 1)]
    assert SlotFiles(folder).count_beyond(9) == 1
    assert SlotFiles(folder).foreign_images() == ["img_005.png"]


@pytest.mark.parametrize("name", ["reg_2.png", "reg_002.png", "reg_00002.png"])
def test_an_image_is_found_whatever_the_width_of_its_number(folder: Folder, name: str) -> None:
    """A count that was raised leaves narrower names behind."""
    assert SlotFiles(folder).find(1) is None
    (folder.images / name).write_bytes(b"x")
    assert SlotFiles(folder).find(1) == folder.images / name


def test_an_error_of_the_disk_is_a_sentence() -> None:
    """It names the file, and says what was being done to it."""
    with pytest.raises(StorageError) as caught, storage_errors("saving", Path("reg_001.png")):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(caught.value).startswith("saving reg_001.png: the disk is full")


def test_one_run_at_a_time_locks_a_dataset(folder: Folder) -> None:
    """Another one is refused with the name of the first, until that has ended."""
    assert lock_holder(folder.state) is None
    with locked(folder):
        assert "process" in str(lock_holder(folder.state))
        with pytest.raises(DatasetLocked, match=f"process {os.getpid()}"), locked(folder):
            pass
    assert lock_holder(folder.state) is None


@pytest.mark.skipif(os.name == "nt", reason="Windows deletes no file that is open")
@pytest.mark.parametrize("lost", [("lock",), ("lock", "holder.txt")])
def test_a_deleted_lock_file_unlocks_nothing(folder: Folder, lost: tuple[str, ...]) -> None:
    """A person took it for a leftover: another run is still refused, and status still shows the first."""
    with locked(folder):
        for name in lost:
            (folder.state / name).unlink()
        assert lock_holder(folder.state) is not None
        with pytest.raises(DatasetLocked, match="process"), locked(folder):
            pass
        assert lock_holder(folder.state) is not None
    assert lock_holder(folder.state) is None
    with locked(folder):
        pass
