"""The form an image is kept in: the server's own PNG, or what the job asks for instead. Blocking.

The pixels of a PNG are never written anew, but for one that is grey in 16 bits: texts are taken out of the file, or put
into it, as whole chunks. WebP and JPEG are encoded here; their texts are in EXIF. A WebP with EXIF is an extended one,
and imagesize 1.4.1, which kohya asks for sizes, reads these a pixel short each way: under --bucket_no_upscale that is
another bucket. So a WebP has EXIF only where the job names it: ``metadata = "keep"``, or ``parameters``.
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

from reggen.images.decode import plain
from reggen.job.models import Dataset

MODEL, DESCRIPTION = 0x0110, 0x010E  # EXIF tags: where ComfyUI itself keeps its graph
_EXIF_IFD, _COMMENT = 0x8769, 0x9286
_MOST_EXIF = 60_000  # bytes; a JPEG holds no more than 65,533 in all
_QUALITY = 95  # of a JPEG whose job names none
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = {b"tEXt", b"iTXt", b"zTXt", b"eXIf"}
_KEY = "parameters"  # under which AUTOMATIC1111 writes its text


@dataclass(frozen=True, slots=True)
class Form:
    """What the images of a dataset are kept as. ``keep``: with ComfyUI's graph and reggen's note."""

    kind: str = "png"
    quality: int | None = None
    keep: bool = True
    parameters: bool = False

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """As the job says."""
        return cls(dataset.format, dataset.quality, dataset.keeps_metadata, dataset.parameters)

    @property
    def as_sent(self) -> bool:
        """Whether the server's bytes are kept as they are."""
        return self.kind == "png" and self.keep and not self.parameters


def written(source: Path, form: Form, parameters: str = "") -> Path:
    """Write the PNG at ``source`` in this form beside it; ``parameters`` is AUTOMATIC1111's text, where asked for."""
    target = source.with_suffix(f".{form.kind}.part")
    text = parameters if form.parameters else ""
    if form.kind == "png":
        target.write_bytes(b"".join(_rewritten(_shallow(source.read_bytes()), form.keep, text)))
    else:
        _encode(source, target, form, text)
    return target


def _shallow(png: bytes) -> bytes:
    """The same PNG; one that is grey in 16 bits, in eight, with its texts: kohya reads the others as nearly white."""
    if png[24:26] != b"\x10\x00":  # depth 16, grey
        return png
    texts, made = PngImagePlugin.PngInfo(), io.BytesIO()
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        picture = plain(image)
        for key, text in image.info.items():
            if isinstance(key, str) and isinstance(text, str):
                texts.add_text(key, text)
        picture.save(made, "PNG", pnginfo=texts)
    return made.getvalue()


def _rewritten(png: bytes, keep: bool, text: str) -> Iterator[bytes]:
    """The chunks of a whole PNG, with other texts."""
    yield _SIGNATURE
    for kind, chunk in _chunks(png):
        if kind == b"IDAT" and text:
            yield _text_chunk(text)
            text = ""
        if kind not in _TEXTS or (keep and not chunk[8:].startswith(f"{_KEY}\0".encode())):
            yield chunk


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at : at + length + 12]
        at += length + 12


def _text_chunk(text: str) -> bytes:
    """tEXt where Latin-1 suffices, as AUTOMATIC1111 itself does it, and iTXt otherwise."""
    try:
        kind, body = b"tEXt", f"{_KEY}\0".encode() + text.encode("latin-1")
    except UnicodeEncodeError:
        kind, body = b"iTXt", f"{_KEY}\0\0\0\0\0".encode() + text.encode()
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _encode(source: Path, target: Path, form: Form, text: str) -> None:
    with Image.open(source, formats=["PNG"]) as image, target.open("wb") as file:
        exif = _exif(image.info if form.keep else {}, text)
        picture = plain(image).convert("RGB")
        if form.kind == "webp" and form.quality is None:
            picture.save(file, "WEBP", lossless=True, method=4, exif=exif)
        elif form.kind == "webp":
            picture.save(file, "WEBP", quality=form.quality, method=4, exif=exif)
        else:
            picture.save(file, "JPEG", quality=form.quality or _QUALITY, subsampling=0, exif=exif)


def _exif(texts: Mapping[Any, Any], parameters: str) -> bytes:
    """What of the texts fits: reggen's note, then the parameters, then the graph. Empty when there is none."""
    exif, left = Image.Exif(), _MOST_EXIF
    comment = b"UNICODE\0" + parameters.encode("utf-16-be")
    if parameters and len(comment) < left:
        exif.get_ifd(_EXIF_IFD)[_COMMENT] = comment
        left -= len(comment)
    for tag, key in ((DESCRIPTION, "reggen"), (MODEL, "prompt")):
        text = texts.get(key)
        if isinstance(text, str) and len(text.encode()) < left:
            exif[tag] = f"{key}:{text}"
            left -= len(text.encode())
    return exif.tobytes() if left < _MOST_EXIF else b""


def parameters_text(
    positive: str | None, negative: str | None, seed: int, size: tuple[int, int], settings: Mapping[str, Any]
) -> str:
    """The text that AUTOMATIC1111 writes and Civitai reads, as far as the values are known.

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
        "Size": "x".join(map(str, size)),
        "Model": _model(checkpoint) if isinstance(checkpoint, str) else None,
    }
    last = ", ".join(f"{name}: {value}" for name, value in facts.items() if value is not None)
    lines = [positive or "", f"Negative prompt: {negative}" if negative else "", last]
    return "\n".join(line for line in lines if line)


def _model(checkpoint: str) -> str:
    """A checkpoint's name without its folder and ending."""
    name = checkpoint.replace("\\", "/").rpartition("/")[2]
    return name.removesuffix(".safetensors").removesuffix(".ckpt")
