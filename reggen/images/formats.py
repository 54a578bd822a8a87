"""The format an image is stored in: the server's own PNG, or the format that the job asks for. Blocking.

The pixels of a PNG are never encoded again, except 16 bits of grey: texts are removed from the file, or added to it, as
whole chunks. WebP and JPEG are encoded here; their texts are in EXIF. A WebP with EXIF is an extended one, and
imagesize 1.4.1, which kohya asks for sizes, reads these a pixel short each way: under --bucket_no_upscale that is
another bucket. So a WebP has EXIF only where the job asks for it: ``metadata = "keep"``, or ``parameters``.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from PIL import Image, PngImagePlugin

from reggen.geometry import Size, size_text
from reggen.images.decode import PNG_SIGNATURE, eight_bit
from reggen.job.dataset import Dataset

DESCRIPTION = 0x010E
"""The EXIF tag ImageDescription, which holds reggen's note."""
_MODEL = 0x0110  # the EXIF tag in which ComfyUI itself keeps its graph
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_EXIF_LIMIT = 60_000  # bytes; a JPEG holds no more than 65,533 in all
_JPEG_QUALITY = 95  # where the job names none
_TEXT_CHUNKS = {b"tEXt", b"iTXt", b"zTXt", b"eXIf"}
_PARAMETERS = "parameters"  # AUTOMATIC1111's keyword for its text


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The file format and the texts of a dataset's images.

    ``kind`` is png, webp or jpg. ``keep_metadata``: ComfyUI's graph and reggen's note stay in the file.
    ``parameters``: AUTOMATIC1111's text is added.
    """

    kind: str = "png"
    quality: int | None = None
    keep_metadata: bool = True
    parameters: bool = False

    @classmethod
    def of_job(cls, dataset: Dataset) -> Self:
        """The format that a job's [dataset] names."""
        return cls(dataset.format, dataset.quality, dataset.keeps_metadata, dataset.parameters)

    @property
    def as_sent(self) -> bool:
        """True where the server's bytes are stored without a change."""
        return self.kind == "png" and self.keep_metadata and not self.parameters


def convert(source: Path, output: OutputFormat, parameters: str = "") -> Path:
    """Write the PNG at ``source`` in this format beside it, and return the new file.

    ``parameters`` is AUTOMATIC1111's text, used where the format asks for it.
    """
    target = source.with_suffix(f".{output.kind}.part")
    text = parameters if output.parameters else ""
    if output.kind == "png":
        png = _with_eight_bits(source.read_bytes())
        target.write_bytes(b"".join(_with_other_texts(png, output.keep_metadata, text)))
    else:
        _encode(source, target, output, text)
    return target


def _with_eight_bits(png: bytes) -> bytes:
    """The same PNG; 16 bits of grey become eight, with all texts, because kohya reads 16 bits as nearly white."""
    if png[24:26] != b"\x10\x00":  # depth 16, grey
        return png
    texts, made = PngImagePlugin.PngInfo(), io.BytesIO()
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        picture = eight_bit(image)
        for key, text in image.info.items():
            if isinstance(key, str) and isinstance(text, str):
                texts.add_text(key, text)
        picture.save(made, "PNG", pnginfo=texts)
    return made.getvalue()


def _with_other_texts(png: bytes, keep: bool, text: str) -> Iterator[bytes]:
    """The chunks of a whole PNG, its texts kept or left out, and ``text`` as its parameters."""
    yield PNG_SIGNATURE
    for kind, chunk in _chunks(png):
        if kind == b"IDAT" and text:
            yield _text_chunk(text)
            text = ""
        if kind not in _TEXT_CHUNKS or (keep and not chunk[8:].startswith(f"{_PARAMETERS}\0".encode())):
            yield chunk


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and bytes of each chunk, the bytes with length and checksum."""
    start = len(PNG_SIGNATURE)
    while start + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, start)
        yield png[start + 4 : start + 8], png[start : start + length + 12]
        start += length + 12


def _text_chunk(text: str) -> bytes:
    """A chunk of parameters: tEXt where Latin-1 suffices, as AUTOMATIC1111 writes it, and iTXt otherwise."""
    try:
        kind, body = b"tEXt", f"{_PARAMETERS}\0".encode() + text.encode("latin-1")
    except UnicodeEncodeError:
        kind, body = b"iTXt", f"{_PARAMETERS}\0\0\0\0\0".encode() + text.encode()
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _encode(source: Path, target: Path, output: OutputFormat, text: str) -> None:
    with Image.open(source, formats=["PNG"]) as image, target.open("wb") as file:
        exif = _exif(image.info if output.keep_metadata else {}, text)
        picture = eight_bit(image).convert("RGB")
        if output.kind == "webp" and output.quality is None:
            picture.save(file, "WEBP", lossless=True, method=4, exif=exif)
        elif output.kind == "webp":
            picture.save(file, "WEBP", quality=output.quality, method=4, exif=exif)
        else:
            picture.save(file, "JPEG", quality=output.quality or _JPEG_QUALITY, subsampling=0, exif=exif)


def _exif(texts: Mapping[Any, Any], parameters: str) -> bytes:
    """EXIF with the texts that fit: the parameters, then reggen's note, then the graph. Empty when there are none."""
    exif, left = Image.Exif(), _EXIF_LIMIT
    comment = b"UNICODE\0" + parameters.encode("utf-16-be")
    if parameters and len(comment) < left:
        exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = comment
        left -= len(comment)
    for tag, key in ((DESCRIPTION, "reggen"), (_MODEL, "prompt")):
        text = texts.get(key)
        if isinstance(text, str) and len(text.encode()) < left:
            exif[tag] = f"{key}:{text}"
            left -= len(text.encode())
    return exif.tobytes() if left < _EXIF_LIMIT else b""


def parameters_text(
    positive: str | None, negative: str | None, seed: int, size: Size, settings: Mapping[str, Any]
) -> str:
    """The text that AUTOMATIC1111 writes and Civitai reads, with the values that are known.

    ``settings`` may have steps, sampler, scheduler, cfg and checkpoint, under ComfyUI's names.
    """

    def known(key: str) -> Any:
        value = settings.get(key)
        return value if isinstance(value, str | int | float) else None  # in a graph it may be a link

    cfg, checkpoint = known("cfg"), known("checkpoint")
    facts = {
        "Steps": known("steps"),
        "Sampler": known("sampler"),
        "Schedule type": known("scheduler"),
        "CFG scale": f"{cfg:g}" if isinstance(cfg, int | float) else cfg,
        "Seed": seed,
        "Size": size_text(size),
        "Model": _model_name(checkpoint) if isinstance(checkpoint, str) else None,
    }
    last = ", ".join(f"{name}: {value}" for name, value in facts.items() if value is not None)
    lines = [positive or "", f"Negative prompt: {negative}" if negative else "", last]
    return "\n".join(line for line in lines if line)


def _model_name(checkpoint: str) -> str:
    """A checkpoint's name without its folder and ending."""
    name = checkpoint.replace("\\", "/").rpartition("/")[2]
    return name.removesuffix(".safetensors").removesuffix(".ckpt")
