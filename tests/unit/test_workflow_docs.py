"""docs/workflows.md: the families as the table of reggen has them, and job files that load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from reggen.job import loader
from reggen.model_families import FAMILIES

DOCS = Path(__file__).parents[2] / "docs" / "workflows.md"
BASE = """
[dataset]
root = "out"
class = "cat"
count = 4
[prompts]
positive = ["a cat"]
[[servers]]
url = "http://127.0.0.1:8188"
"""
FRAGMENTS = re.findall(r"^```toml\n(.*?)^```", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def rows() -> Iterator[str]:
    for name, family in FAMILIES.items():
        guidance = "" if family.guidance is None else f"{family.guidance:g}"
        sampler = f"{family.sampler}, {family.scheduler if family.sigmas == 'BasicScheduler' else family.sigmas}"
        negative = "yes" if family.negative == "text" else "no effect"
        size = "{} x {}".format(*family.native)
        cells = (f"`{name}`", size, sampler, family.steps, f"{family.cfg:g}", guidance, negative)
        yield f"| {' | '.join(map(str, cells))} |"


def test_the_families_are_listed_with_their_values() -> None:
    """One row a family, in the order of the table."""
    assert "\n".join(rows()) in DOCS.read_text("utf-8")


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_fragments_of_job_files_are_valid(fragment: str, tmp_path: Path) -> None:
    """Each loads when it is added to a small job."""
    (file := tmp_path / "job.toml").write_text(BASE + fragment, encoding="utf-8")
    loader.load(file)
