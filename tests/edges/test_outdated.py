"""A changed prompt or size: plan and status say so, and `redo --outdated` has those images made again."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

import reggen
from reggen.cli import app
from reggen.sim import Settings, serve
from tests.conftest import filled

JOB = """\
[dataset]
root = '{root}'
class = "girl"
count = 3
[[servers]]
url = "{url}"
[sampling]
checkpoint = "AnythingXL_inkBase.safetensors"
width = 64
height = 64
[prompts]
positive = "a girl"
"""


def write(file: Path, url: str, old: str = "", new: str = "") -> reggen.Job:
    text = JOB.format(root=file.parent / "reg", url=url)
    file.write_text(text.replace(old, new) if old else text, encoding="utf-8")
    return reggen.load(file)


async def test_a_changed_prompt_is_told_and_the_command_makes_the_images_again(tmp_path: Path) -> None:
    """Until then they are kept and count as done; the next run makes them as the job says now."""
    file = tmp_path / "job.toml"
    async with serve(Settings(seconds=0.005)) as sim:
        await filled(write(file, sim.url))
        assert "outdated" not in str(reggen.status(reggen.load(file)))
        job = write(file, sim.url, '"a girl"', '"a girl, smiling"')
        command = f"python -m reggen redo {file} --outdated"
        for text in (str(reggen.status(job)), str(reggen.plan(job))):
            told = "  outdated     3 images were made with other settings (prompt, size, ...) and kept; to have new"
            assert told in text
            assert f"\n    {command}\n" in text
        assert (reggen.status(job).classes[0].outdated, reggen.status(job).missing) == (3, 0)
        done = CliRunner().invoke(app, command.split()[3:])
        assert done.exit_code == 0
        assert "The next run makes others, as the job says now, with other seeds:" in done.stdout
        assert reggen.status(job).missing == 3
        await filled(job)
    assert reggen.status(job).classes[0].outdated == 0


async def test_without_outdated_images_nothing_is_redone(tmp_path: Path) -> None:
    """Not even where no run has begun."""
    file = tmp_path / "job.toml"
    async with serve(Settings(seconds=0.005)) as sim:
        write(file, sim.url)
        before = CliRunner().invoke(app, ["redo", str(file), "--outdated"])
        await filled(reggen.load(file))
        after = CliRunner().invoke(app, ["redo", str(file), "--outdated"])
    assert before.stdout == after.stdout == "no image was made with other settings\n"
    assert reggen.status(reggen.load(file)).missing == 0
