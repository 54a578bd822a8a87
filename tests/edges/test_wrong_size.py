"""A workflow whose images have another size than the job asks for: the run ends at once, with what to do."""

from __future__ import annotations

import json
from pathlib import Path

from reggen.job.models import Limits
from reggen.scheduler.stop_rules import StopRules
from reggen.sim import Settings, serve
from reggen.workflow.graph import built_in
from tests.conftest import JobMaker, filled

REASON = "is 128x128 where 64x64 was asked for"


def test_wrong_sizes_from_the_first_image_on_are_the_workflow_s() -> None:
    """Three of them end the run; after a single right one it is a fault of single images."""
    rules = StopRules(Limits(), None)
    assert [rules.wrong_size(1, REASON) for _ in range(3)] == ["", "", f"every image {REASON}"]
    rules = StopRules(Limits(), None)
    rules.made("a", 1.0)
    assert [rules.wrong_size(1, REASON) for _ in range(5)] == [""] * 5


async def test_a_workflow_that_makes_another_size_ends_the_run_early(job: JobMaker, tmp_path: Path) -> None:
    """An upscaler before the saver: few prompts are spent, no server rests, and the remedy is said."""
    graph = built_in()
    graph["60"] = {"class_type": "ImageScale", "inputs": {"image": ["8", 0], "width": 128, "height": 128}}
    graph["9"]["inputs"]["images"] = ["60", 0]
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(graph), encoding="utf-8")
    async with serve(Settings(lenient=True)) as sim:
        made = job(
            sim.url, workflow={"file": str(file)}, dataset={"count": 12},
            sampling={"width": 64, "height": 64},
        )  # fmt: skip
        done = await filled(made)
        assert done.summary.exit_code == 1
        assert "every image is 128x128 where 64x64 was asked for" in str(done.summary)
        assert "set [checks] size = false" in str(done.summary)
        assert sim.executed <= 8
