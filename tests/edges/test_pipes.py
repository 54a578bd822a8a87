"""Pipes and devices among a user's files: they are named, and nobody waits for them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reggen.comfy.tls import fingerprint
from reggen.dataset.captioning import rewrite_captions
from reggen.diagnosis import inspection
from reggen.diagnosis.doctor import examine
from reggen.diagnosis.scope import DoctorOptions
from reggen.errors import BadImage, JobError
from reggen.files import opened
from reggen.images import compare, probe
from reggen.images.check import CheckSettings, inspect
from reggen.images.phash import file_phash
from reggen.job import loader
from reggen.prepare.prepared_job import prepare
from reggen.sim import Settings, serve
from tests.conftest import JobMaker, filled
from tests.pictures import paint, write

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
LIMIT = 10.0  # seconds
SAID = "it is a pipe or a device, not a file"


def pipe(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(file)
    return file


def in_time(work: Callable[[], Any]) -> Any:
    """What it returns or raises; a test must not hang where the program does."""
    found: list[Any] = []

    def do() -> None:
        try:
            found.append((work(), None))
        except Exception as error:  # noqa: BLE001 - it is raised again below
            found.append((None, error))

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert found, "it hangs"
    answer, error = found[0]
    if error:
        raise error
    return answer


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """Neither is a device; a file is, and what is not there is said as ever."""
    for file in (pipe(tmp_path / "a"), Path("/dev/zero")):
        with pytest.raises(OSError, match=SAID):
            in_time(partial(opened, file))
    with pytest.raises(FileNotFoundError):
        opened(tmp_path / "none")
    with opened(write(tmp_path / "b", "text")) as stream:
        assert stream.read() == b"text"


def test_a_pipe_as_a_job_file_is_a_sentence(tmp_path: Path) -> None:
    """Nobody may ever write into it. What a shell hands over as /dev/fd/N is another matter."""
    with pytest.raises(JobError, match=SAID):
        in_time(lambda: loader.load(pipe(tmp_path / "job.toml")))


def test_a_pipe_as_a_training_image_is_a_sentence(job: JobMaker, tmp_path: Path) -> None:
    """The run does not start, and says which it is."""
    train = tmp_path / "train"
    paint(train / "1_sks" / "a.png")
    pipe(train / "1_sks" / "b.png")
    one = job(training={"folder": str(train)})
    with pytest.raises(JobError, match=rf"b\.png.*{SAID}"):
        in_time(lambda: prepare(one, "test.toml"))


def test_a_pipe_as_a_training_caption_is_passed_over_and_named(job: JobMaker, tmp_path: Path) -> None:
    """As the trainer passes over it: the class tokens stand in, which nobody meant."""
    train = tmp_path / "train"
    paint(train / "1_sks" / "a.png")
    caption = pipe(train / "1_sks" / "a.caption")
    (prepared,) = in_time(lambda: prepare(job(training={"folder": str(train)}), "test.toml"))
    assert f"{caption} is not a file, so no caption is read there" in prepared.warnings


@pytest.mark.parametrize("quick", [False, True], ids=["whole", "quick"])
def test_the_doctor_names_a_pipe_among_the_images(tmp_path: Path, quick: bool) -> None:
    """Another is as long as it, which is when both are read for being copies."""
    folder = tmp_path / "reg" / "1_girl"
    paint(folder / "a.png")
    for name in ("b.png", "c.png"):
        pipe(folder / name)
    found = in_time(lambda: examine(DoctorOptions(tmp_path / "reg", quick=quick)))
    assert SAID in str(found)


def test_nothing_that_looks_at_a_picture_waits_for_a_pipe(tmp_path: Path) -> None:
    """Each of them for itself: what was a picture when it was listed may be a pipe when it is read."""
    file, other = pipe(tmp_path / "a.png"), paint(tmp_path / "b.png")
    assert in_time(lambda: probe.content_digest(file)) is None
    assert in_time(lambda: file_phash(file)) is None
    assert in_time(lambda: compare.first_match(other, [file])) is None
    assert in_time(lambda: inspection._differs(file, b"")) is False
    with pytest.raises(BadImage, match=SAID):
        in_time(lambda: inspect(file, "a", CheckSettings(None)))
    with pytest.raises(OSError, match=SAID):
        in_time(lambda: fingerprint(file))


@pytest.mark.parametrize("by", ["recaption", "run"])
async def test_a_pipe_as_a_caption_is_set_aside(job: JobMaker, by: str) -> None:
    """The run that writes captions does it, and so does `recaption`; nothing of the user's is removed."""
    async with serve(Settings(seconds=0.005)) as sim:
        await filled(one := job(sim.url, dataset={"count": 2}, captions={"write": "prompt"}))
        caption = one.dataset.folder / "reg_001.caption"
        caption.unlink()
        pipe(caption)
        (prepared,) = prepare(one, "test.toml")
        if by == "run":
            await filled(one, limit=LIMIT)
        else:
            in_time(lambda: rewrite_captions(prepared.dataset, prepared.plan, prepared.captions, prepared.guard))
        assert caption.is_file()
        assert any(aside.is_fifo() for aside in (one.dataset.state / "rejected").iterdir())
