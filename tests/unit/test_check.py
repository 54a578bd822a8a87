"""The checks at the dataset's door, with crafted offenders."""

from __future__ import annotations

import ast
import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageChops, PngImagePlugin

import reggen
from reggen.errors import BadImage
from reggen.images.check import CheckSettings, Inspection, inspect
from reggen.images.compare import first_match
from reggen.images.formats import OutputFormat, convert
from reggen.images.phash import file_phash
from reggen.images.probe import read_header
from reggen.job.models import Checks
from reggen.sim import paint

ANY = CheckSettings(size=None)
ASKED = CheckSettings(size=(64, 64))
FORMATS = (OutputFormat("png"), OutputFormat("png", keep_metadata=False), OutputFormat("webp"), OutputFormat("jpg"))


def png(path: Path, size: tuple[int, int] = (64, 64)) -> Path:
    path.write_bytes(paint("a cat", 7, *size))
    return path


def picture() -> Image.Image:
    return Image.open(io.BytesIO(paint("a cat", 7, 64, 64)))


def test_a_good_picture_passes_and_tells_its_size(tmp_path: Path) -> None:
    """What is found is what the ledger will say."""
    assert inspect(png(tmp_path / "a.png"), "reg_001", ASKED) == Inspection(64, 64, {})


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
    made = convert(tmp_path / "a.png", OutputFormat(kind))
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
    inspect(tmp_path / "a.png", "reg_001", CheckSettings(size=None, black=False, flat=False))


def test_another_size_than_asked_for_is_refused(tmp_path: Path) -> None:
    """ComfyUI rounds odd sizes down without a word."""
    with pytest.raises(BadImage, match="is 64x56 where 64x64 was asked for"):
        inspect(png(tmp_path / "a.png", (64, 56)), "reg_001", ASKED)


@pytest.mark.parametrize("side", [10_008, 20_000])
def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path, side: int) -> None:
    """The header is enough to refuse it: a small file can hold a picture that fills the memory."""
    png(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[8:33] = chunk(b"IHDR", struct.pack(">2I", side, side) + content[24:29], 13)
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BadImage, match="pixels"):
        inspect(tmp_path / "a.png", "reg_001", CheckSettings(size=None, megapixels=100))


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
    inspect(tmp_path / "a.png", "reg_001", CheckSettings(size=None, noise=False))
    inspect(tmp_path / "a.png", "reg_001", CheckSettings(size=None, noise_level=1.5))


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
        inspect(tmp_path / "a.png", "reg_001", CheckSettings.of_job(checks, (64, 64), 100))
    png(tmp_path / "a.png")
    with pytest.raises(BadImage, match="one colour"):
        inspect(tmp_path / "a.png", "reg_001", CheckSettings.of_job(Checks(flat_level=128), None, 100))


def test_demands_can_be_of_another_size(tmp_path: Path) -> None:
    """Where each image has its own; and a job that wants no size gets none."""
    one = CheckSettings.of_job(Checks(), (64, 64), 100)
    assert one.for_size((64, 96)) == CheckSettings.of_job(Checks(), (64, 96), 100)
    assert CheckSettings.of_job(Checks(size=False), (64, 64), 100).size is None


def test_the_hashes_are_made_only_where_they_are_wanted(tmp_path: Path) -> None:
    """They are most of what a check costs beside the decoding."""
    png(tmp_path / "a.png")
    assert inspect(tmp_path / "a.png", "reg_001", ANY).phash_text is None
    finding = inspect(tmp_path / "a.png", "reg_001", CheckSettings(None, duplicates=True))
    assert finding.phash == finding.phashes[0]
    assert int(finding.phash_text or "", 16) == finding.phash


def chunk(kind: bytes, body: bytes, length: int) -> bytes:
    return struct.pack(">I", length) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def claiming(content: bytes, kind: bytes, length: int = 0x7FFFFFFF) -> bytes:
    """The same PNG, in which the first chunk of this kind says that it is so long."""
    at = content.index(kind) - 4
    return content[:at] + struct.pack(">I", length) + content[at + 4 :]


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND"], ids=ascii)
@pytest.mark.parametrize("length", [0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 200_000])
def test_a_chunk_that_claims_more_than_there_is_is_refused(tmp_path: Path, kind: bytes, length: int) -> None:
    """Pillow reads some of these as if nothing were wrong; a trainer's decoder need not."""
    (tmp_path / "a.png").write_bytes(claiming(paint("a cat", 7, 64, 64), kind, length))
    with pytest.raises(BadImage) as caught:
        inspect(tmp_path / "a.png", "reg_001", ANY)
    assert caught.value.torn


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"fdAT", b"xxXx"], ids=ascii)
def test_a_chunk_behind_the_pixels_is_held_to_its_length_too(tmp_path: Path, kind: bytes) -> None:
    """As one before them is."""
    good = paint("a cat", 7, 64, 64)
    for at in (33, len(good) - 12):
        (tmp_path / "a.png").write_bytes(good[:at] + chunk(kind, b"a\0b", 0x7FFFFFFF) + good[at:])
        with pytest.raises(BadImage):
            inspect(tmp_path / "a.png", "reg_001", ANY)


@pytest.mark.parametrize(
    "note",
    ["[" * 100_000, '{"index":' * 50_000, '{"seed": ' + "9" * 5_000 + "}", '{"seed": 1e999}', '{"seed": true}', "NaN"],
    ids=["list", "table", "digits", "infinite", "true", "nan"],
)
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, note: str) -> None:
    """The picture is what it is; who wrote that into it is another matter."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("reggen", note)
    picture().save(tmp_path / "a.png", pnginfo=texts)
    assert inspect(tmp_path / "a.png", "reg_001", ASKED).note == {}


def deep(path: Path, texts: PngImagePlugin.PngInfo | None = None) -> Image.Image:
    """The picture in 16 bits of grey, and what it is in eight."""
    grey = picture().convert("L")
    values = b"".join(struct.pack("<H", value * 257) for value in grey.tobytes())
    Image.frombytes("I;16", grey.size, values).save(path, "PNG", pnginfo=texts)
    return grey


def test_grey_in_sixteen_bits_is_read_as_it_looks(tmp_path: Path) -> None:
    """Its darker half is not black, and its lighter half not white."""
    grey = deep(tmp_path / "a.png")
    finding = inspect(tmp_path / "a.png", "reg_001", CheckSettings(size=(64, 64), duplicates=True))
    grey.save(tmp_path / "b.png")
    assert finding.is_16_bit
    assert (
        finding.phashes == inspect(tmp_path / "b.png", "reg_001", CheckSettings(size=(64, 64), duplicates=True)).phashes
    )
    Image.frombytes("I;16", (64, 64), struct.pack("<H", 0x8000) * 64 * 64).save(tmp_path / "c.png")
    with pytest.raises(BadImage, match="is of one colour"):
        inspect(tmp_path / "c.png", "reg_001", ANY)


@pytest.mark.parametrize(
    "output",
    FORMATS,
    ids=str,
)
def test_grey_in_sixteen_bits_is_kept_in_eight(tmp_path: Path, output: OutputFormat) -> None:
    """As it looks, in every form: kohya would read the other as white."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("reggen", '{"index": 3}')
    texts.add_text("prompt", '{"3": "é"}')
    grey = deep(tmp_path / "a.png", texts)
    with Image.open(convert(tmp_path / "a.png", output)) as image:
        assert image.mode in {"L", "RGB"}
        assert (image.info.get("prompt") is not None) == (output.kind == "png" and output.keep_metadata)
        difference = ImageChops.difference(image.convert("L"), grey)
    assert max(difference.tobytes()) <= (12 if output.kind == "jpg" else 1)


@pytest.mark.parametrize("kind", ["EPS", "PCX", "PPM"])
def test_what_no_trainer_is_given_is_not_decoded(tmp_path: Path, kind: str) -> None:
    """Some decoders start programs, or are nobody's concern: only formats that are named are opened."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png", kind)
    with pytest.raises(BadImage, match="is not a png file"):
        inspect(tmp_path / "a.png", "reg_001", ANY)
    readable = kind == "PPM"
    assert (read_header(tmp_path / "a.png").size is not None) == readable
    assert (first_match(tmp_path / "a.png", [tmp_path / "a.png"]) is not None) == readable
    picture().save(tmp_path / "a.png", kind)
    assert (file_phash(tmp_path / "a.png") is not None) == readable


def test_every_file_is_opened_for_named_formats() -> None:
    """No call of Image.open leaves it to the file which of Pillow's forty decoders it gets."""
    for file in sorted(Path(reggen.__file__).parent.rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if "Image.open" in source else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open":
                assert "formats" in {keyword.arg for keyword in node.keywords}, f"{file}:{node.lineno}"


def test_a_folder_with_an_images_name_is_said_to_be_one(tmp_path: Path) -> None:
    """Not in the numbers of the system."""
    (tmp_path / "reg_001.png").mkdir()
    with pytest.raises(BadImage, match="is a folder, not a file"):
        inspect(tmp_path / "reg_001.png", "reg_001", ANY)
