"""Node classes for workflows as the page saves them: asked of a server once, then kept."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from reggen.errors import WorkflowError
from reggen.planning.plan import PromptRequest
from reggen.prepare.prepared_job import prepare
from reggen.sim import Settings, serve
from tests.conftest import JobMaker, filled
from tests.unit.test_page_format import node, page


async def test_a_page_s_workflow_runs_and_is_planned_without_a_server(job: JobMaker, tmp_path: Path) -> None:
    """The first command asks the server; the next ones need none. The images come as from the exported graph."""
    file = tmp_path / "page.json"
    classic = page(n4=node(4, "CheckpointLoaderSimple", ("AnythingXL_inkBase.safetensors",)))
    file.write_text(json.dumps(classic), encoding="utf-8")
    async with serve(Settings()) as sim:
        made = job(sim.url, workflow={"file": str(file)}, dataset={"count": 2})
        await asyncio.to_thread(prepare, made, "test.toml")  # it blocks while it asks
        done = await filled(made)
        assert done.summary.exit_code == 0
    (prepared,) = prepare(made, "test.toml")
    graph = prepared.template.bind(PromptRequest((prepared.plan[0],)), "x")
    assert graph["6"]["inputs"]["text"] == prepared.plan[0].positive
    assert (made.dataset.root / ".reggen" / "node_classes.json").is_file()


def test_without_a_server_it_is_said(job: JobMaker, tmp_path: Path) -> None:
    """Nothing is guessed about the order of values: start a server, or export."""
    file = tmp_path / "page.json"
    file.write_text(json.dumps(page()), encoding="utf-8")
    made = job("http://127.0.0.1:9", workflow={"file": str(file)})
    with pytest.raises(WorkflowError, match="no server tells its nodes") as caught:
        prepare(made, "test.toml")
    assert "Export (API)" in str(caught.value)
