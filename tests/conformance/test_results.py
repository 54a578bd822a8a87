"""The traces of a prompt: files, history, jobs; and what the server says about itself."""

from __future__ import annotations

import asyncio
import io
import json
import re
import uuid
from typing import Any

import pytest
from PIL import Image

from tests.conformance.harness import Comfy, plain, since, some_color, some_prefix, txt2img


def opened(png: bytes) -> Image.Image:
    """A decoded picture."""
    image = Image.open(io.BytesIO(png))
    image.load()
    return image


async def test_names_count_up_in_their_folder(comfy: Comfy):
    """Files are numbered per prefix, in the sub-folder that the prefix names."""
    prefix = some_prefix()
    found = []
    for _ in range(2):
        prompt_id = await comfy.submit(plain(some_color(), prefix=prefix))
        found += await comfy.images(prompt_id, "2")
    folder = prefix.removesuffix("/p")
    assert found == [
        {"filename": "p_00001_.png", "subfolder": folder, "type": "output"},
        {"filename": "p_00002_.png", "subfolder": folder, "type": "output"},
    ]


@pytest.mark.parametrize(
    ("prefix", "subfolder", "name"),
    [
        ("{}/a.b", "{}", "a.b"),
        ("{}//deep/p/", "{}/deep", "p"),
        ("{}/x/../p", "{}", "p"),
        ("{}/%width%x%height%/p", "{}/32x32", "p"),
        ("{}/p_00007_", "{}", "p_00007_"),
    ],
)
async def test_prefix_is_a_path(comfy: Comfy, prefix: str, subfolder: str, name: str):
    """A prefix is tidied like a path, and the sizes in it are filled in."""
    folder = some_prefix().removesuffix("/p")
    prompt_id = await comfy.submit(plain(some_color(), prefix=prefix.format(folder)))
    (image,) = await comfy.images(prompt_id, "2")
    assert image["subfolder"] == subfolder.format(folder)
    assert image["filename"] == f"{name}_00001_.png"


@pytest.mark.parametrize("prefix", ["", ".", ".."])
async def test_prefix_may_be_odd(comfy: Comfy, prefix: str):
    """A prefix that names nothing still names a file in the output folder."""
    prompt_id = await comfy.submit(plain(some_color(), prefix=prefix))
    (image,) = await comfy.images(prompt_id, "2")
    assert image["subfolder"] == ""
    assert re.fullmatch(rf"{re.escape(prefix or '.')}_\d{{5}}_\.png", image["filename"])


async def test_batch_is_saved_in_order(comfy: Comfy):
    """A batch gives as many files, numbered one after the other."""
    prompt_id = await comfy.submit(plain(some_color(), prefix=some_prefix(), batch=4))
    files = [one["filename"] for one in await comfy.images(prompt_id, "2")]
    assert files == [f"p_0000{number}_.png" for number in (1, 2, 3, 4)]


async def test_previews_go_to_the_temp_folder(comfy: Comfy):
    """PreviewImage saves under a name of the server's own making."""
    prompt_id = await comfy.submit(plain(some_color(), prefix=None))
    (image,) = await comfy.images(prompt_id, "2")
    assert re.fullmatch(r"ComfyUI_temp_[a-z]{5}_\d{5}_\.png", image["filename"])
    assert (image["subfolder"], image["type"]) == ("", "temp")
    assert opened(await comfy.view(image)).size == (32, 32)


async def test_saved_picture_is_the_one_asked_for(comfy: Comfy):
    """An EmptyImage comes back in its colour and its size."""
    prompt_id = await comfy.submit(plain(0x336699, prefix=some_prefix(), size=40))
    (image,) = await comfy.images(prompt_id, "2")
    picture = opened(await comfy.view(image))
    assert picture.size == (40, 40)
    assert picture.convert("RGB").getextrema() == ((0x33, 0x33), (0x66, 0x66), (0x99, 0x99))


async def test_width_is_rounded_down_to_whole_cells(comfy: Comfy):
    """A latent has a cell per 8 pixels: 70 wide becomes 64."""
    graph = txt2img(some_color(), steps=1, prefix=some_prefix())
    graph["5"]["inputs"]["width"] = 70
    prompt_id = await comfy.submit(graph)
    (image,) = await comfy.images(prompt_id, "9")
    assert opened(await comfy.view(image)).size == (64, 64)


async def test_png_carries_graph_and_extra_info(comfy: Comfy):
    """The PNG's text holds the graph, and every key of extra_pnginfo as JSON."""
    graph = plain(some_color(), prefix=some_prefix())
    extra = {"extra_pnginfo": {"workflow": {"id": "w"}, "mine": {"a": [1, "ä"]}}}
    prompt_id = await comfy.submit(graph, extra_data=extra)
    (image,) = await comfy.images(prompt_id, "2")
    text: dict[Any, Any] = opened(await comfy.view(image)).info
    assert json.loads(text["prompt"]) == graph
    assert json.loads(text["workflow"]) == {"id": "w"}
    assert json.loads(text["mine"]) == {"a": [1, "ä"]}


async def test_view_describes_and_cuts_the_file(comfy: Comfy):
    """A file comes with length, tag and date; ranges, HEAD and If-None-Match are understood."""
    prompt_id = await comfy.submit(plain(some_color(), prefix="conf/sub dir/näme"))
    (image,) = await comfy.images(prompt_id, "2")
    where = comfy.url + "/view"
    async with comfy.http.get(where, params=image) as response:
        whole, headers = await response.read(), response.headers
    assert headers["Content-Type"] == "image/png"
    assert int(headers["Content-Length"]) == len(whole)
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Last-Modified"].endswith("GMT")
    tag = headers["ETag"]
    assert re.fullmatch(rf'"[0-9a-f]+-{len(whole):x}"', tag)
    async with comfy.http.get(where, params=image, headers={"Range": "bytes=10-19"}) as response:
        assert (response.status, await response.read()) == (206, whole[10:20])
        assert response.headers["Content-Range"] == f"bytes 10-19/{len(whole)}"
    async with comfy.http.get(where, params=image, headers={"Range": "bytes=-5"}) as response:
        assert (response.status, await response.read()) == (206, whole[-5:])
    async with comfy.http.get(where, params=image, headers={"If-None-Match": tag}) as response:
        assert response.status == 304
    async with comfy.http.head(where, params=image) as response:
        assert (response.status, int(response.headers["Content-Length"])) == (200, len(whole))


async def test_view_refuses_what_is_not_there_or_not_allowed(comfy: Comfy):
    """Missing is 404, a name that leads away 400, a folder that leads away 403."""
    prefix = some_prefix()
    await comfy.entry(await comfy.submit(plain(some_color(), prefix=prefix)))
    folder = prefix.removesuffix("/p")
    cases: list[tuple[dict[str, str], int]] = [
        ({"filename": "p_00001_.png", "subfolder": folder}, 200),
        ({"filename": "p_00001_.png [output]", "subfolder": folder}, 200),
        ({"filename": "p_00001_.png", "subfolder": folder, "type": "temp"}, 404),
        ({"filename": "p_00001_.png", "subfolder": folder, "type": "bogus"}, 400),
        ({"filename": "p_00001_.png", "subfolder": folder, "type": ""}, 400),
        ({"filename": "p_00001_.png", "subfolder": "nope"}, 404),
        ({"filename": "nope.png"}, 404),
        ({}, 404),
        ({"filename": ""}, 400),
        ({"filename": "/etc/hosts"}, 400),
        ({"filename": "../x.png"}, 400),
        ({"filename": "x.png", "subfolder": "../.."}, 403),
        ({"filename": "x.png", "subfolder": "/etc"}, 403),
        ({"filename": f"{folder}/p_00001_.png"}, 404),
    ]
    assert [await comfy.status_of("/view", **query) for query, _ in cases] == [status for _, status in cases]


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ({"preview": "webp;80"}, "image/webp"),
        ({"preview": "jpeg;50"}, "image/jpeg"),
        ({"channel": "rgb"}, "image/png"),
    ],
)
async def test_view_encodes_anew_on_request(comfy: Comfy, query: dict[str, str], kind: str):
    """Other formats and channels come without the text that the file holds."""
    prompt_id = await comfy.submit(plain(some_color(), prefix=some_prefix()))
    (image,) = await comfy.images(prompt_id, "2")
    async with comfy.http.get(comfy.url + "/view", params=image | query) as response:
        assert response.headers["Content-Type"] == kind
        assert "prompt" not in opened(await response.read()).info


async def test_history_entry_says_everything(comfy: Comfy):
    """An entry holds the prompt as it ran, the outputs, the messages with times, and whose they are."""
    async with comfy.ear() as ear:
        prompt_id = await comfy.submit(plain(some_color(), prefix=some_prefix()), client_id=ear.client_id)
        await ear.until_done(prompt_id)
        entry = (await comfy.get(f"/history/{prompt_id}"))[prompt_id]
    assert set(entry) == {"prompt", "outputs", "status", "meta"}
    assert entry["prompt"][1] == prompt_id
    assert entry["prompt"][3].keys() == {"client_id"} | ({"create_time"} if comfy.has("0.3.69") else set())
    assert entry["meta"] == {"2": {"node_id": "2", "display_node": "2", "parent_node": None, "real_node_id": "2"}}
    status = entry["status"]
    assert (status["status_str"], status["completed"]) == ("success", True)
    assert [event for event, _ in status["messages"]] == [
        "execution_start",
        "execution_cached",
        "execution_success",
    ]
    assert all(data["prompt_id"] == prompt_id for _, data in status["messages"])
    times = [data["timestamp"] for _, data in status["messages"]]
    assert times == sorted(times)


async def test_history_pages(comfy: Comfy):
    """Without an offset the newest are given, with one the oldest first; unknown ids give nothing."""
    for _ in range(3):
        await comfy.entry(await comfy.submit(plain(some_color(), prefix=None)))
    before: list[str] = []
    after, newest, second = [""], before, before
    async with asyncio.timeout(20):
        while before != after:  # once nobody else has added an entry meanwhile
            before = list(await comfy.get("/history"))
            newest = list(await comfy.get("/history", max_items=2))
            second = list(await comfy.get("/history", max_items=2, offset=1))
            after = list(await comfy.get("/history"))
    assert (newest, second) == (after[-2:], after[1:3])
    assert await comfy.get("/history", max_items=0) == {}
    assert await comfy.get(f"/history/{uuid.uuid4()}") == {}
    assert await comfy.status_of("/history", max_items="abc") == 500


async def test_history_forgets_on_request(comfy: Comfy):
    """A deleted entry is gone; its file stays."""
    prompt_id = await comfy.submit(plain(some_color(), prefix=some_prefix()))
    (image,) = await comfy.images(prompt_id, "2")
    assert await comfy.post("/history", {"delete": [prompt_id, "unknown"]}) == (200, "")
    assert await comfy.get(f"/history/{prompt_id}") == {}
    assert await comfy.view(image)


@since("0.6", "/api/jobs")
async def test_job_of_a_finished_prompt(comfy: Comfy):
    """A job repeats what history says, with times and a preview."""
    prompt_id = await comfy.submit(plain(some_color(), prefix=some_prefix()))
    (image,) = await comfy.images(prompt_id, "2")
    job = await comfy.get(f"/api/jobs/{prompt_id}")
    assert set(job) == {
        "id",
        "status",
        "priority",
        "create_time",
        "execution_start_time",
        "execution_end_time",
        "outputs_count",
        "previewable_outputs_count",
        "preview_output",
        "outputs",
        "execution_status",
        "workflow",
    }
    assert (job["status"], job["outputs_count"]) == ("completed", 1)
    assert job["preview_output"] == {**image, "nodeId": "2", "mediaType": "images"}


@since("0.6", "/api/jobs")
async def test_jobs_are_listed_and_filtered(comfy: Comfy):
    """The list is newest first, says how many there are, and knows the id of a workflow."""
    workflow = uuid.uuid4().hex
    extra = {"extra_pnginfo": {"workflow": {"id": workflow}}}
    ids = [await comfy.submit(plain(some_color(), prefix=None), extra_data=extra) for _ in range(2)]
    for prompt_id in ids:
        await comfy.entry(prompt_id)
    listed = await comfy.get("/api/jobs", workflow_id=workflow)
    assert sorted(job["id"] for job in listed["jobs"]) == sorted(ids)
    assert {job["workflow_id"] for job in listed["jobs"]} == {workflow}
    assert listed["pagination"] == {"offset": 0, "limit": None, "total": 2, "has_more": False}
    page = await comfy.get("/api/jobs", workflow_id=workflow, limit=1, status="completed,failed")
    assert page["pagination"] == {"offset": 0, "limit": 1, "total": 2, "has_more": True}
    assert await comfy.status_of("/api/jobs", status="bogus") == 400
    assert await comfy.status_of("/api/jobs", limit="0") == 400
    assert await comfy.status_of("/jobs", limit="1") == 404
    assert await comfy.get(f"/api/jobs/{uuid.uuid4()}") == {"error": "Job not found"}


async def test_every_route_exists_under_api(comfy: Comfy):
    """/api before a path changes nothing, the socket included."""
    for path in ("/prompt", "/queue", "/history?max_items=1", "/object_info/KSampler", "/system_stats"):
        assert await comfy.status_of("/api" + path) == 200
    async with comfy.http.ws_connect(comfy.url + "/api/ws") as socket:
        assert (await socket.receive_json())["type"] == "status"


async def test_unknown_paths_and_methods(comfy: Comfy):
    """A route that does not exist is 404, a method that it does not have 405."""
    assert await comfy.status_of("/nope") == 404
    async with comfy.http.put(comfy.url + "/prompt") as response:
        assert response.status == 405


@pytest.mark.parametrize("name", ["KSampler", "CheckpointLoaderSimple", "SaveImage", "EmptyImage", "VAELoader"])
async def test_object_info_of_a_class(comfy: Comfy, name: str):
    """A class is described under its own name: inputs with their limits, outputs, whether it saves."""
    described = (await comfy.get(f"/object_info/{name}"))[name]
    assert {"input", "input_order", "output", "output_name", "output_node", "name"} <= set(described)
    assert described["name"] == name
    assert described["output_node"] is (name == "SaveImage")
    assert await comfy.get("/object_info/NoSuchClass") == {}


async def test_server_describes_itself(comfy: Comfy):
    """Version and memory, models, features: each where a client looks for it."""
    stats = await comfy.get("/system_stats")
    assert re.fullmatch(r"\d+\.\d+\.\d+", stats["system"]["comfyui_version"])
    assert {"ram_total", "ram_free", "os", "python_version"} <= set(stats["system"])
    assert {"name", "type", "vram_total", "vram_free"} <= set(stats["devices"][0])
    assert "AnythingXL_inkBase.safetensors" in await comfy.get("/models/checkpoints")
    assert await comfy.status_of("/models/no_such_folder") == 404
    assert (await comfy.get("/features"))["supports_preview_metadata"] is True
