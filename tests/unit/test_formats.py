"""The form images are kept in: what is in the files, byte for byte where that is promised."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, PngImagePlugin

from reggen.images.check import CheckSettings, inspect
from reggen.images.formats import OutputFormat, convert, parameters_text
from reggen.images.probe import read_header
from reggen.job.dataset import Dataset
from reggen.sim import paint

GRAPH, NOTE = '{"3": {"class_type": "KSampler"}}', '{"index": 3, "take": 1, "seed": 7}'
SETTINGS: dict[str, Any] = {
    "steps": 20,
    "sampler": "euler_ancestral",
    "scheduler": "normal",
    "cfg": 7.0,
    "checkpoint": "sd15/AnythingXL_inkBase.safetensors",
}
TEXT = parameters_text("1girl, solo", "lowres", 1, (512, 512), SETTINGS)


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    """As a server sends it: its graph and reggen's note are in it."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("prompt", GRAPH)
    texts.add_text("reggen", NOTE)
    texts.add_itxt("workflow", "ü" * 40, zip=True)
    path = tmp_path / "reg_004.part"
    Image.open(io.BytesIO(paint("a cat", 7, 64, 64))).save(path, "PNG", pnginfo=texts)
    return path


def bodies(path: Path, kind: bytes) -> list[bytes]:
    """The chunks of one kind; every checksum on the way must be right."""
    png, at, found = path.read_bytes(), 8, []
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        name, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert zlib.crc32(name + body) == int.from_bytes(png[at + 8 + length : at + 12 + length], "big")
        found += [body] if name == kind else []
        at += length + 12
    return found


def texts_of(path: Path) -> dict[str, str]:
    with Image.open(path) as image:
        image.load()
        return {str(key): str(value) for key, value in image.info.items()}


def test_a_png_is_stripped_without_its_pixels_being_encoded_again(sent: Path) -> None:
    """The compressed pixels are the server's to the byte; every text is gone, reggen's own too."""
    made = convert(sent, OutputFormat(keep_metadata=False))
    assert bodies(made, b"IDAT") == bodies(sent, b"IDAT")
    assert texts_of(made) == {}
    assert inspect(made, "reg_004", CheckSettings((64, 64))).note == {}


@pytest.mark.parametrize(("text", "kind"), [(TEXT, b"tEXt"), (TEXT + " 猫", b"iTXt")])
@pytest.mark.parametrize("keep", [True, False])
def test_the_parameters_are_put_into_a_png(sent: Path, text: str, kind: bytes, keep: bool) -> None:
    """In Latin-1 where that suffices, as others write it; the pixels stay, and the rest as the job says."""
    made = convert(sent, OutputFormat(keep_metadata=keep, parameters=True), text)
    assert bodies(made, b"IDAT") == bodies(sent, b"IDAT")
    assert any(body.startswith(b"parameters\0") for body in bodies(made, kind))
    assert texts_of(made)["parameters"] == text
    assert ("prompt" in texts_of(made)) is keep


def test_parameters_that_are_there_are_replaced(sent: Path) -> None:
    """A server's own node may have written some: two of them would be read as one or the other."""
    once = convert(sent, OutputFormat(parameters=True), "old")
    assert texts_of(convert(once.rename(sent), OutputFormat(parameters=True), TEXT))["parameters"] == TEXT


def test_a_form_that_changes_nothing_says_so() -> None:
    """Then the file is not even read again."""
    assert OutputFormat().as_sent
    assert not any(
        form.as_sent for form in (OutputFormat(keep_metadata=False), OutputFormat(parameters=True), OutputFormat("jpg"))
    )


def comment(path: Path) -> str:
    with Image.open(path) as image:
        raw = image.getexif().get_ifd(0x8769).get(0x9286, b"")
    assert raw[:8] in {b"UNICODE\0", b""}
    return str(raw[8:], "utf-16-be")


@pytest.mark.parametrize("kind", ["webp", "jpg"])
def test_exif_holds_the_graph_the_note_and_the_parameters(sent: Path, kind: str) -> None:
    """Where ComfyUI, reggen and AUTOMATIC1111 look for them."""
    made = convert(sent, OutputFormat(kind, parameters=True), TEXT + " 猫")
    assert comment(made) == TEXT + " 猫"
    with Image.open(made) as image:
        assert image.getexif()[0x0110] == f"prompt:{GRAPH}"
    assert inspect(made, "reg_004", CheckSettings((64, 64)), kind).note == {"index": 3, "take": 1, "seed": 7}


def test_a_graph_too_large_for_exif_is_left_out_and_the_rest_stays(tmp_path: Path) -> None:
    """A JPEG holds 64 KiB of it."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("prompt", "x" * 70_000)
    texts.add_text("reggen", NOTE)
    Image.open(io.BytesIO(paint("a cat", 7, 64, 64))).save(tmp_path / "a.part", "PNG", pnginfo=texts)
    made = convert(tmp_path / "a.part", OutputFormat("jpg", parameters=True), TEXT)
    assert comment(made) == TEXT
    assert inspect(made, "reg_004", CheckSettings((64, 64)), "jpg").note["seed"] == 7


@pytest.mark.parametrize("quality", [None, 80])
def test_a_webp_without_exif_is_read_by_kohya_in_its_true_size(sent: Path, quality: int | None) -> None:
    """imagesize 1.4.1 reads the VP8X header, which EXIF brings along, a pixel short each way."""
    plain, extended = OutputFormat("webp", quality, keep_metadata=False), OutputFormat("webp", quality)
    head = convert(sent, plain).read_bytes()[:16]
    assert head[:4] + head[8:12] == b"RIFFWEBP"
    assert head[12:] == (b"VP8 " if quality else b"VP8L")
    assert read_header(_named(convert(sent, plain))).kohya_size == (64, 64)
    assert read_header(_named(convert(sent, extended))).kohya_size == (63, 63)


def _named(part: Path) -> Path:
    return part.rename(part.with_suffix(""))


def test_lossless_is_lossless_and_quality_is_quality(sent: Path) -> None:
    """webp without a quality keeps every pixel; a lower quality makes a smaller file."""
    original = Image.open(sent).convert("RGB")
    with Image.open(convert(sent, OutputFormat("webp"))) as image:
        assert ImageChops.difference(original, image.convert("RGB")).getbbox() is None
    for kind in ("webp", "jpg"):
        sizes = [convert(sent, OutputFormat(kind, quality)).stat().st_size for quality in (20, 95)]
        assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("kind", "metadata", "kept"),
    [("png", None, True), ("jpg", None, True), ("webp", None, False), ("webp", "keep", True), ("png", "strip", False)],
)
def test_only_webp_goes_without_metadata_unasked(tmp_path: Path, kind: str, metadata: str | None, kept: bool) -> None:
    """Its bucket must be right before its metadata are kept."""
    options = {"metadata": metadata} if metadata else {}
    one = Dataset.model_validate({"root": tmp_path, "class": "a", "count": 1, "format": kind, **options})
    assert OutputFormat.of_job(one).keep_metadata is kept


def test_the_parameters_are_written_as_automatic1111_writes_them() -> None:
    """Three lines: positive, negative, and the settings by its names."""
    settings = (
        "Steps: 20, Sampler: euler_ancestral, Schedule type: normal, CFG scale: 7, Seed: 1, Size: 512x512, "
        "Model: AnythingXL_inkBase"
    )
    assert TEXT.splitlines() == ["1girl, solo", "Negative prompt: lowres", settings]


def test_only_what_is_known_is_written() -> None:
    """A value that a graph takes from another node is a link there, and no value."""
    assert parameters_text("a", None, 5, (64, 96), {"steps": ["4", 0], "cfg": None}) == "a\nSeed: 5, Size: 64x96"
