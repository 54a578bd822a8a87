"""Find the files of a model family on a server, where the job leaves their names out. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PRECISION = re.compile(
    r"([-_.](fp\d+|bf16|f16|f32|fp8mixed|scaled|e4m3fn|e5m2|mixed|pruned|fast|nf4|int8|q\d\w*|learned|stochastic))+$"
)
_KEYS = {"vae_name": "vae", "clip_name": "text_encoders"}


def fitting(usual: str, choices: Sequence[str]) -> list[str]:
    """The files among a server's that are the usual one, perhaps in another folder or precision."""
    if usual in choices:
        return [usual]
    return [choice for choice in choices if _stem(choice) == _stem(usual)]


def _stem(name: str) -> str:
    """A file's name without folder, ending and precision: t5xxl of text/t5xxl_fp8_e4m3fn.safetensors."""
    stem = re.split(r"[\\/]+", name)[-1].lower()
    return _PRECISION.sub("", re.sub(r"\.(safetensors|sft|ckpt|pt|pth|bin|gguf)$", "", stem))


def question(input_name: str, usual: str, found: Sequence[str], choices: Sequence[str]) -> str:
    """The problem of a server that has no such file, or several, with the line to paste."""
    key = _KEYS[input_name.rstrip("0123456789")]
    what = "several files fit" if found else "no file fits"
    shown = ", ".join(repr(one) for one in (found or choices)[:8]) or "none"
    line = f'{key} = "..."' if key == "vae" else f'{key} = ["...", ...]'
    return f"{what} {usual!r}, the family's usual one: write {line} in [sampling] (it has {shown})"
