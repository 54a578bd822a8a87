"""The checks at the dataset's door, with crafted offenders."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from reggen.dataset.check import Demands, Finding, inspect
from reggen.dataset.formats import Form, written
from reggen.errors import BadImage
from reggen.job import Checks
from reggen.sim import paint

ANY = Demands(size=None)
ASKED = Demands(size=(64, 64))


def png(path: Path, size: tuple[int, int] = (64, 64)) -> Path:
    path.write_bytes(paint("a cat", 7, *size))
    return path


def picture() -> Image.Image:
    return Image.open(io.BytesIO(paint("a cat", 7, 64, 64)))


def test_a_good_picture_passes_and_tells_its_size(tmp_path: Path) -> None:
    """What is found is what the ledger will say."""
    assert inspect(png(tmp_path / "a.png"), "reg_001", ASKED) == Finding(64, 64, {})


def test_a_note_in_the_png_is_read(tmp_path: Path) -> None:
    """It tells which slot and seed a file without a row belongs to."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("reggen", '{"index": 3}')
    picture().save(tmp_path / "a.png", pnginfo=texts)
    assert inspect(tmp_path / "a.png", "reg_001", ASKED).note == {"index": 3}


@pytest.mark.parametrize("kind", ["webp", "jpg"])
def test_the_note_survives_a_conversion(tmp_path: Path, kind: str) -> None:
    """WebP and JPEG keep it in EXIF."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("reggen", '{"index": 3}')
    texts.add_text("prompt", '{"3": {}}')
    picture().save(tmp_path / "a.png", pnginfo=texts)
    made = written(tmp_path / "a.png", Form(kind))
    assert inspect(made, "reg_001", ASKED, kind).note == {"index": 3}


def cut(path: Path) -> None:
    png(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def endless(path: Path) -> None:
    png(path)
    path.write_bytes(path.read_bytes()[:-12])


def html(path: Path) -> None:
    path.write_text("<html>502 Bad Gateway</html>")


def jpeg_in_disguise(path: Path) -> None:
    picture().save(path, "JPEG")


def empty(path: Path) -> None:
    path.touch()


def flipped(path: Path) -> None:
    png(path)
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 0xFF
    path.write_bytes(body)


@pytest.mark.parametrize("offend", [cut, endless, html, jpeg_in_disguise, empty, flipped])
def test_what_is_no_whole_png_is_torn(tmp_path: Path, offend: object) -> None:
    """Torn means: the way here may be at fault, so the seed is not to blame."""
    assert callable(offend)
    offend(tmp_path / "a.png")
    with pytest.raises(BadImage) as caught:
        inspect(tmp_path / "a.png", "reg_001", ASKED)
    assert caught.value.torn
    assert caught.value.name == "reg_001"


@pytest.mark.parametrize(
    ("colour", "word"), [((0, 0, 0), "black"), ((5, 3, 8), "black"), ((120, 130, 140), "one colour")]
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_black_and_flat_pictures_are_refused(
    tmp_path: Path, colour: tuple[int, int, int], word: str, mode: str
) -> None:
    """In every colour mode; another seed is the remedy, so they are not torn."""
    Image.new("RGB", (64, 64), colour).convert(mode, palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
    with pytest.raises(BadImage, match=word) as caught:
        inspect(tmp_path / "a.png", "reg_001", ASKED)
    assert not caught.value.torn


def test_single_checks_can_be_turned_off(tmp_path: Path) -> None:
    """A class of black squares is somebody's class."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    inspect(tmp_path / "a.png", "reg_001", Demands(size=None, black=False, flat=False))


def test_another_size_than_asked_for_is_refused(tmp_path: Path) -> None:
    """ComfyUI rounds odd sizes down without a word."""
    with pytest.raises(BadImage, match="is 64x56 where 64x64 was asked for"):
        inspect(png(tmp_path / "a.png", (64, 56)), "reg_001", ASKED)


@pytest.mark.parametrize("side", [10_008, 20_000])
def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path, side: int) -> None:
    """The header is enough to refuse it: a small file can hold a picture that fills the memory."""
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    with pytest.raises(BadImage, match="pixels"):
        inspect(tmp_path / "a.png", "reg_001", Demands(size=None, megapixels=100))


def test_a_picture_with_detail_in_one_channel_is_not_flat(tmp_path: Path) -> None:
    """The fullest channel decides."""
    noise = picture().convert("L")
    still = Image.new("L", (64, 64), 128)
    Image.merge("RGB", (still, still, noise)).save(tmp_path / "a.png")
    inspect(tmp_path / "a.png", "reg_001", ANY)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_an_image_of_nothing_but_noise_is_refused(tmp_path: Path, mode: str) -> None:
    """What comes of latents that are no numbers: every pixel differs from its neighbours, both ways."""
    Image.effect_noise((512, 512), 80).convert(mode).save(tmp_path / "a.png")
    with pytest.raises(BadImage, match="is nothing but noise") as caught:
        inspect(tmp_path / "a.png", "reg_001", ANY)
    assert not caught.value.torn
    inspect(tmp_path / "a.png", "reg_001", Demands(size=None, noise=False))
    inspect(tmp_path / "a.png", "reg_001", Demands(size=None, noise_level=1.5))


def test_stripes_and_film_grain_are_no_noise(tmp_path: Path) -> None:
    """The one is smooth along one direction; the other lies over a picture, be it on a plain wall in its middle."""
    stripes = Image.new("L", (64, 64))
    for left in range(0, 64, 2):
        stripes.paste(255, (left, 0, left + 1, 64))
    stripes.save(tmp_path / "a.png")
    inspect(tmp_path / "a.png", "reg_001", ANY)
    wall = Image.new("L", (512, 512), 230)
    wall.paste(20, (0, 0, 80, 512))
    grain = Image.effect_noise((512, 512), 30)
    Image.blend(wall, grain, 0.2).save(tmp_path / "a.png")
    inspect(tmp_path / "a.png", "reg_001", ANY)
    Image.blend(picture().resize((512, 512)).convert("L"), grain, 0.3).save(tmp_path / "a.png")
    inspect(tmp_path / "a.png", "reg_001", ANY)


def test_the_levels_are_the_jobs(tmp_path: Path) -> None:
    """Where black ends and one colour begins is somebody's taste."""
    Image.new("RGB", (64, 64), (20, 20, 20)).save(tmp_path / "a.png")
    checks = Checks(black_level=20, flat=False)
    with pytest.raises(BadImage, match="is black"):
        inspect(tmp_path / "a.png", "reg_001", Demands.by(checks, (64, 64), 100))
    png(tmp_path / "a.png")
    with pytest.raises(BadImage, match="one colour"):
        inspect(tmp_path / "a.png", "reg_001", Demands.by(Checks(flat_level=128), None, 100))


def test_demands_can_be_of_another_size(tmp_path: Path) -> None:
    """Where each image has its own; and a job that wants no size gets none."""
    one = Demands.by(Checks(), (64, 64), 100)
    assert one.of((64, 96)) == Demands.by(Checks(), (64, 96), 100)
    assert Demands.by(Checks(size=False), (64, 64), 100).size is None


def test_the_hashes_are_made_only_where_they_are_wanted(tmp_path: Path) -> None:
    """They are most of what a check costs beside the decoding."""
    png(tmp_path / "a.png")
    assert inspect(tmp_path / "a.png", "reg_001", ANY).likeness is None
    finding = inspect(tmp_path / "a.png", "reg_001", Demands(None, duplicates=True))
    assert finding.hash == finding.prints[0]
    assert int(finding.likeness or "", 16) == finding.hash
