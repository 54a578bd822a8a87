"""Rehearsal pictures: right size, plainly different, readable, deterministic."""

from __future__ import annotations

import io
import time

import pytest
from PIL import Image, ImageStat

from reggen.sim import Mark, paint, read_mark
from reggen.sim.painting.paint import paint_preview, reencode


def opened(png: bytes) -> Image.Image:
    """A decoded picture."""
    image = Image.open(io.BytesIO(png))
    image.load()
    return image


def fingerprint(png: bytes) -> int:
    """A difference hash of 64 bits, as tools that look for duplicates use."""
    grey = opened(png).convert("L").resize((9, 8), Image.Resampling.BOX).tobytes()
    pairs = ((row * 9 + column, row * 9 + column + 1) for row in range(8) for column in range(8))
    return sum((grey[left] > grey[right]) << place for place, (left, right) in enumerate(pairs))


@pytest.mark.parametrize("size", [(16, 16), (16, 300), (301, 17), (64, 64), (100, 60), (512, 768), (1024, 1024)])
def test_mark_survives_at_any_size(size: tuple[int, int]):
    """From 16 pixels up, the mark says which picture this is."""
    png = paint("a cat, smiling", 2**64 - 3, *size, index=2)
    assert opened(png).size == size
    assert read_mark(png) == Mark.of("a cat, smiling", 2**64 - 3, *size, index=2)


def test_mark_tells_pictures_apart():
    """Another seed, prompt, size or index gives another mark."""
    marks = {
        read_mark(paint("a", 1, 64, 64)),
        read_mark(paint("b", 1, 64, 64)),
        read_mark(paint("a", 2, 64, 64)),
        read_mark(paint("a", 1, 64, 72)),
        read_mark(paint("a", 1, 64, 64, index=1)),
    }
    assert len(marks) == 5


def test_mark_survives_an_other_encoding():
    """What is in the pixels does not depend on the file's text or format."""
    png = paint("a", 77, 512, 512)
    assert read_mark(reencode(png, "png", 90, "rgb")) == Mark.of("a", 77, 512, 512)


@pytest.mark.parametrize("png", [paint("", 1, 64, 64, color=0x123456), paint("", 1, 12, 12)])
def test_pictures_without_a_mark_say_so(png: bytes):
    """A plain surface, or one too small, holds no mark."""
    with pytest.raises(ValueError, match="mark"):
        read_mark(png)


def test_same_arguments_same_bytes():
    """Painting is a function of its arguments."""
    assert paint("a", 5, 128, 96) == paint("a", 5, 128, 96)


def test_seeds_give_clearly_different_pictures():
    """No two of two hundred seeds look alike to a perceptual hash."""
    phashes = [fingerprint(paint("a photo of a person", seed, 128, 128)) for seed in range(200)]
    distances = [(one ^ other).bit_count() for at, one in enumerate(phashes) for other in phashes[:at]]
    assert min(distances) >= 6


def test_pictures_are_neither_flat_nor_black():
    """An ordinary picture has light and colour in it."""
    for seed in range(20):
        stat = ImageStat.Stat(opened(paint("a", seed, 64, 64)).convert("L"))
        assert stat.mean[0] > 20
        assert stat.stddev[0] > 10


def test_appearances_that_a_check_must_notice():
    """Black is black, flat is flat, noise has a seed too, and wrong is marked as another picture."""
    black, flat = (opened(paint("a", 1, 64, 64, appearance=name)) for name in ("black", "flat"))
    assert black.getextrema() == ((0, 0),) * 3
    assert flat.getextrema() == ((127, 127),) * 3
    assert paint("a", 1, 64, 64, appearance="noise") != paint("a", 2, 64, 64, appearance="noise")
    assert read_mark(paint("a", 1, 64, 64, appearance="wrong")) != Mark.of("a", 1, 64, 64)


def test_text_chunks_are_kept():
    """Text goes into the file as it is, beyond ASCII too."""
    info = opened(paint("a", 1, 64, 64, chunks={"prompt": '{"1": "ä"}', "mine": "x"})).info
    assert (info["prompt"], info["mine"]) == ('{"1": "ä"}', "x")


def test_color_fills_the_picture():
    """A plain colour is painted as it was given, at any size from one pixel up."""
    picture = opened(paint("", 0, 1, 3, color=0xFF8000))
    assert picture.size == (1, 3)
    assert picture.getpixel((0, 2)) == (255, 128, 0)


def test_painting_is_quick():
    """512 x 512 takes well below a tenth of a second of the processor's time, whatever else it is asked for."""
    spent = []
    for seed in range(5):
        began = time.thread_time()
        paint("quick", seed, 512, 512)
        spent.append(time.thread_time() - began)
    assert min(spent) < 0.1


def test_previews_are_scaled_to_512():
    """A preview is a JPEG whose longer side has 512 pixels."""
    picture = opened(paint_preview(1, 64, 128, 0.5))
    assert (picture.format, picture.size) == ("JPEG", (256, 512))
