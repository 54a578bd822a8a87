"""The job file that benchmarks fill: small pictures, three prompts."""

from __future__ import annotations

from pathlib import Path

PROMPTS = '["a cat", "a dog", "a bird"]'

_JOB = """
{head}
[dataset]
root = '{root}'
class = "{name}"
count = {count}
[sampling]
checkpoint = "AnythingXL_inkBase.safetensors"
width = {size}
height = {size}
{sampling}
[prompts]
positive = {prompts}
negative = "blurry"
{tail}
"""


def write_job(  # wide: the places of a template
    file: Path,
    *,
    count: int,
    root: Path | None = None,
    head: str = "",
    size: int = 64,
    sampling: str = "",
    prompts: str = PROMPTS,
    tail: str = "",
) -> Path:
    """Write a job file. Its class has the file's name, and its dataset lies beside it unless `root` is given.

    ``head`` comes before all tables, ``sampling`` goes into that table, ``tail`` comes after all: as in TOML.
    """
    root = (root or file.with_name("dataset")).absolute()
    values = {"head": head, "root": root.as_posix(), "name": file.stem, "count": count, "size": size}
    file.write_text(_JOB.format(**values, sampling=sampling, prompts=prompts, tail=tail), encoding="utf-8")
    return file
