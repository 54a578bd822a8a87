"""The shell and Python blocks of the documents are executed as they are written, with a stand-in for the server."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import dedent

import pytest

from reggen.sim import Settings, serve
from tests.conftest import NOWHERE
from tests.pictures import paint

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the blocks are for a POSIX shell")


def blocks(document: str, kind: str = "sh") -> list[str]:
    """The blocks of one kind in a document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [dedent(block) for block in re.findall(rf"^ *```{kind}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)]


def with_line(document: str, text: str) -> str:
    """The only shell block of a document that contains a text."""
    (block,) = (block for block in blocks(document) if text in block)
    return block


class Shell:
    """A folder with the example jobs, of four images each, in which commands are executed.

    ``python`` is the one of the tests. Commands that install, and those of a cluster, are replaced by scripts.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "configs", folder / "configs")
        for job in (folder / "configs").glob("*.toml"):
            text = job.read_text(encoding="utf-8").replace("http://127.0.0.1:8188", url)
            job.write_text(re.sub(r"^count = \d+", "count = 4", text, flags=re.MULTILINE), encoding="utf-8")
        for name, script in {
            ".venv/bin/python": f'exec "{sys.executable}" "$@"',
            ".venv/bin/pip": "exit 0",
            "bin/python": f'exec "{sys.executable}" "$@"',
            "bin/python3": "exit 0",  # makes the environment
            "bin/srun": 'exec "$@"',
            "bin/scontrol": 'echo "$@"',
        }.items():
            (file := folder / name).parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            file.chmod(0o755)

    async def run(self, script: str) -> str:
        """The output of a script, all of whose commands have to succeed."""
        environment = os.environ | {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-euo",
            "pipefail",
            "-c",
            script,
            cwd=self.folder,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, output.decode()
        return output.decode()


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    async with serve(Settings(seconds=0.01)) as sim:
        yield Shell(tmp_path, sim.url)


async def test_the_first_command_of_the_readme_rehearses_the_example(tmp_path: Path) -> None:
    """It needs no server."""
    shell = Shell(tmp_path, NOWHERE)
    output = await shell.run(with_line("README.md", "--rehearse"))
    assert "Complete: 4 of 4 images" in output
    assert len([*(tmp_path / "rehearsal/spyke").rglob("*.png")]) == 4


async def test_the_commands_of_the_readme_work_in_their_order(shell: Shell) -> None:
    """Check, plan, run, status, doctor and config."""
    paint(shell.folder / "dataset/spyke/train/4_spyke_plasma_v1/1.png", (512, 512))
    output = await shell.run(with_line("README.md", "python -m reggen check"))
    for text in ("ready", "the first 4:", "Complete: 4 of 4", "4 of 4 done", "All is well.", "is_reg = true"):
        assert text in output


@pytest.mark.parametrize("program", blocks("README.md", "python"))
async def test_the_python_blocks_of_the_readme_run(program: str, tmp_path: Path) -> None:
    """As scripts, beside the example jobs; they rehearse, so they need no server."""
    shell = Shell(tmp_path, NOWHERE)
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    output = await shell.run("python program.py")
    assert "Complete: 4 of 4 images" in output


async def test_the_batch_script_runs_a_job(shell: Shell) -> None:
    """On a cluster, whose own commands are stubs here; a job that is complete is not queued again."""
    output = await shell.run(with_line("docs/operating.md", "srun").replace("JOB\n", "configs/spyke.toml\n"))
    assert "Complete: 4 of 4" in output
    assert "requeue" not in output


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/operating.md", "docs/performance.md"])
async def test_every_shell_block_can_be_parsed(document: str) -> None:
    """By the shell, without executing it."""
    for block in blocks(document):
        process = await asyncio.create_subprocess_exec("bash", "-n", "-c", block)
        assert await process.wait() == 0, block


def test_the_benchmarks_have_the_options_of_the_document() -> None:
    """Each module that is named exists and defines each option that is given to it."""
    commands = re.findall(r"-m tests\.bench(\S*)([^#\n]*)", with_line("docs/performance.md", "tests.bench"))
    assert commands
    for module, words in commands:
        file = ROOT / "tests/bench" / f"{module.removeprefix('.') or '__main__'}.py"
        defined = set(re.findall(r'"(--[a-z-]+)"', file.read_text(encoding="utf-8")))
        assert set(re.findall(r"--[a-z-]+", words)) <= defined, file.name
