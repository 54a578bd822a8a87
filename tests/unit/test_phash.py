"""Copies of a picture are found: by its hashes, their index, and a pixel comparison."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from reggen.dataset.duplicates import training_phashes
from reggen.images.compare import Match, first_match
from reggen.images.phash import file_phash, own_phash, phashes
from reggen.images.phash_index import PhashIndex
from tests.gallery import COPIES, picture, rehearsal

KEPT = 6  # pictures of each kind: enough to see that it works; `python -m tests.bench.gates --recall 200` measures
SIDE = 256  # pixels


@dataclass(frozen=True)
class Gallery:
    """Pictures of every kind, their files, and an index of them."""

    pictures: list[Image.Image]
    files: list[Path]
    index: PhashIndex

    def found(self, image: Image.Image, at: Path) -> list[int]:
        """The pictures it matches: nominated by its hash, and confirmed by a pixel comparison."""
        image.save(at / "new.png", compress_level=1)
        suspects = self.index.find(phashes(image))
        return [number for number in suspects if first_match(at / "new.png", [self.files[number]])]


def some(numbers: range) -> list[Image.Image]:
    """Pictures of these numbers, of both kinds."""
    return [make(number, SIDE) for make in (picture, rehearsal) for number in numbers]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """Made once."""
    pictures, index = some(range(KEPT)), PhashIndex(6)
    folder = tmp_path_factory.mktemp("gallery")
    files = [folder / f"{number}.png" for number in range(len(pictures))]
    for number, image in enumerate(pictures):
        own = own_phash(image)
        assert own is not None
        index.add(number, own)
        image.save(files[number], compress_level=1)
    return Gallery(pictures, files, index)


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_of_a_picture_is_found(tmp_path: Path, gallery: Gallery, copy: str) -> None:
    """Whatever was done to it: at most one is missed, and it is never taken for another."""
    missed = []
    for number, original in enumerate(gallery.pictures):
        confirmed = gallery.found(COPIES[copy](original), tmp_path)
        assert confirmed in ([number], [])
        missed += [] if confirmed else [number]
    assert len(missed) <= 1, f"{copy}: {missed}"


def test_other_pictures_raise_no_alarm(tmp_path: Path, gallery: Gallery) -> None:
    """Neither of the same kinds, nor the mirror images of those that are there and are not symmetrical."""
    others = some(range(1000, 1012))
    others += [ImageOps.mirror(one) for one in (*gallery.pictures[1:KEPT:2], *gallery.pictures[KEPT:])]
    assert [gallery.found(one, tmp_path) for one in others] == [[]] * len(others)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_that_shows_nothing_has_no_hash(level: int) -> None:
    """Or all of them would be one."""
    image = Image.new("RGB", (64, 64), (level, level, level))
    image.putpixel((3, 3), (90, 0, 0))
    assert (phashes(image), own_phash(image)) == ((), None)


def test_size_and_mode_make_no_difference() -> None:
    """Upright or wide, grey or in colour: a hash is of what is shown."""
    image = picture(1)
    assert phashes(image.convert("RGBA")) == phashes(image)
    assert len(phashes(image.convert("L").resize((320, 64)))) == len(phashes(image))


def test_the_nearest_come_first_and_none_beyond_the_limit() -> None:
    """By the number of bits that differ from any of the hashes asked for."""
    index = PhashIndex(2)
    for number, own in enumerate((0b1111, 0b0001, 0b0000, 0b0111)):
        index.add(number, own)
    assert index.find([0]) == [2, 1]
    assert index.find([0, 0b1111]) == [0, 2, 1, 3]
    assert index.find([]) == []


@pytest.mark.parametrize("bits", [0, 3, 6, 10, 11, 24])
def test_the_index_finds_what_looking_at_all_would_find(bits: int) -> None:
    """However it is cut into bands."""
    chance = random.Random(bits)
    known = [chance.getrandbits(64) for _ in range(2000)]
    index = PhashIndex(bits)
    for number, own in enumerate(known):
        index.add(number, own)
    for _ in range(50):
        asked = chance.choice(known)
        for place in chance.sample(range(64), chance.randrange(bits + 3)):
            asked ^= 1 << place
        expected = {number for number, own in enumerate(known) if (own ^ asked).bit_count() <= bits}
        assert set(index.find([asked])) == expected if len(expected) <= 4 else index.find([asked])


def test_the_oldest_are_forgotten_where_it_is_full() -> None:
    """Its memory is what it was at the beginning."""
    chance, index = random.Random(1), PhashIndex(6, capacity=50)
    known = [chance.getrandbits(64) for _ in range(180)]
    for number, own in enumerate(known):
        index.add(number, own)
    assert len(index) == 50
    assert [index.find([own]) for own in known] == [[]] * 130 + [[number] for number in range(130, 180)]


def test_its_memory_is_taken_at_once() -> None:
    """Neither what is remembered nor a search needs more than a full index had when it was empty."""
    tracemalloc.start()
    try:
        index = PhashIndex(6, capacity=20_000)
        begun, _ = tracemalloc.get_traced_memory()
        for number in range(20_000):
            index.add(number, number)
        tracemalloc.reset_peak()
        assert index.find([0xFFFF << 40, 0xFFFF << 41]) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert begun > 20_000 * 26
    assert peak - begun < 20_000  # bytes: not one for each picture


def test_equal_pixels_are_the_same_picture(tmp_path: Path) -> None:
    """In whatever file; a picture that cannot be read is none."""
    picture(3, 64).save(tmp_path / "a.png")
    picture(3, 64).save(tmp_path / "b.webp", lossless=True)
    (tmp_path / "c.png").write_bytes(b"<html>")
    others = [tmp_path / name for name in ("gone.png", "c.png", "b.webp")]
    assert first_match(tmp_path / "a.png", others) == (others[2], Match.SAME)
    assert first_match(tmp_path / "c.png", others) is None


def test_training_images_are_hashed_as_far_as_they_can_be_read(tmp_path: Path) -> None:
    """An unreadable one is the doctor's matter; and it can be stopped."""
    paths = [tmp_path / name for name in ("a.png", "b.jpg", "c.png", "d.png")]
    picture(1).save(paths[0])
    picture(1).save(paths[1], quality=90)
    paths[2].write_bytes(b"half a pict")
    own = own_phash(picture(1))
    hashed = dict(training_phashes(paths, lambda: False))
    assert set(hashed) == {0, 1}
    assert hashed[0] == own
    assert (hashed[1] ^ hashed[0]).bit_count() <= 3
    assert file_phash(paths[3]) is None
    assert list(training_phashes(paths, lambda: True)) == []
