"""A small reg set for tests of the doctor, and short ways to ask for the findings in it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from reggen.dataset.ledger import Ledger
from reggen.dataset.rows import Row
from reggen.diagnosis.model import DoctorReport
from reggen.diagnosis.scope import DoctorOptions
from reggen.job.dataset import state_folder
from reggen.kohya.buckets import Bucketing
from tests.pictures import paint, write

BUCKETING = Bucketing((64, 64), min_reso=64)
GIRL = "reg/1_girl"


def build_set(root: Path) -> Path:
    """Four reg images for four slots: nothing is wrong with them."""
    for n in range(4):
        paint(root / GIRL / f"reg_00{n}.png")
    for n in range(2):
        paint(root / "train" / "2_spyke girl" / f"{n}.png")
    return root


def record_set(root: Path) -> Path:
    """A ledger beside the images, as though reggen had made three of them."""
    state = state_folder(root / GIRL)
    state.mkdir(parents=True)
    with Ledger.open(state) as ledger:
        for n in range(1, 4):
            data = (root / GIRL / f"reg_00{n}.png").read_bytes()
            sha = hashlib.sha256(data).hexdigest()
            ledger.slots.put([Row(n - 1, "done", 0, f"reg_00{n}", "2026", bytes=len(data), sha256=sha)])
    return root


def options_for(root: Path, **more: object) -> DoctorOptions:
    """The doctor's options for the set; ``more`` replaces single ones."""
    train = root / "train" if (root / "train").is_dir() else None
    return replace(DoctorOptions(root / "reg", train, bucketing=BUCKETING), **more)  # type: ignore[arg-type]


def kinds(report: DoctorReport) -> set[str]:
    """The kinds of findings."""
    return {finding.kind for finding in report.findings}


def files(report: DoctorReport, kind: str) -> list[str]:
    """The names of the files of one kind of finding."""
    return [file.name for finding in report.findings if finding.kind == kind for file in finding.files]


def aged(path: Path, seconds: float) -> Path:
    """A file whose time is so long after a fixed moment."""
    os.utime(path, (1_700_000_000 + seconds, 1_700_000_000 + seconds))
    return path


def stale_cache(root: Path) -> Path:
    """A latent cache that is older than its image."""
    aged(root / GIRL / "reg_000.png", 100)
    return aged(write(root / GIRL / "reg_000_0064x0064_sdxl.npz", b""), 0)


def web_page(root: Path) -> Path:
    """A web page named as an image."""
    return write(root / GIRL / "page.png", "<html>")


def overwrite(path: Path, at: float, content: bytes) -> None:
    """Other bytes in a file that stays as long as it was, from a part of its length on."""
    data = bytearray(path.read_bytes())
    start = int(len(data) * at)
    data[start : start + len(content)] = content
    path.write_bytes(data)
