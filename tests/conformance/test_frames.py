"""The frames that a socket gets, and their order."""

from __future__ import annotations

import asyncio
import struct
import uuid

import pytest

from tests.conformance.harness import Comfy, ends, names, plain, since, some_color, some_prefix, txt2img

FLAGS = '{"type": "feature_flags", "data": {"supports_preview_metadata": true}}'


async def test_first_frame_is_status_with_sid(comfy: Comfy):
    """The first frame on a socket is `status`, and its sid is the client id that was asked for."""
    async with comfy.ear() as ear:
        first = ear.frames[0]
    assert first["type"] == "status"
    assert first["data"]["sid"] == ear.client_id
    assert isinstance(first["data"]["status"]["exec_info"]["queue_remaining"], int)


async def test_sid_is_minted_where_no_client_id_is_given(comfy: Comfy):
    """Without a client id the server makes one up, which then serves as one."""
    async with comfy.http.ws_connect(comfy.url + "/ws") as socket:
        sid = (await socket.receive_json())["data"]["sid"]
        prompt_id = await comfy.submit(plain(some_color()), client_id=sid)
        async with asyncio.timeout(20):
            while not ends(await socket.receive_json(), prompt_id):
                pass
    assert len(sid) == 32


async def test_order_of_frames_for_a_sampled_picture(comfy: Comfy):
    """Start, cached, each node announced, progress, executed, success, and null at the end."""
    seed, prefix = some_color(), some_prefix()
    async with comfy.ear() as ear:
        prompt_id = await comfy.submit(txt2img(seed, prefix=prefix), client_id=ear.client_id)
        frames = await ear.until_done(prompt_id)
    shown = names(frames)
    assert shown[:2] == ["execution_start", "execution_cached"]
    assert shown[-6:] == [
        "executing:3",
        "executing:8",
        "executing:9",
        "executed:9",
        "execution_success",
        "executing:None",
    ]
    nodes = {name.removeprefix("executing:") for name in shown if name.startswith("executing:")}
    assert {"3", "8", "9"} <= nodes - {"None"} | set(frames[1]["data"]["nodes"])


async def test_status_frames_surround_a_prompt(comfy: Comfy):
    """After the greeting two status frames lead a prompt in; one comes between success and null.

    A server that somebody else uses too may send more of them.
    """
    async with comfy.ear() as ear:
        prompt_id = await comfy.submit(plain(some_color()), client_id=ear.client_id)
        await ear.until_done(prompt_id)
        shown = names(ear.frames)
    before = shown[: shown.index("execution_start")]
    between = shown[shown.index("execution_success") + 1 : -1]
    assert len(before) >= 3
    assert set(before) == set(between) == {"status"}
    assert shown[-1] == "executing:None"


async def test_progress_names_prompt_node_and_steps(comfy: Comfy):
    """A progress frame says which prompt, which node, how far of how much; the first step is told."""
    async with comfy.ear() as ear:
        prompt_id = await comfy.submit(txt2img(some_color(), steps=8), client_id=ear.client_id)
        frames = await ear.until_done(prompt_id)
    progress = [frame["data"] for frame in frames if frame["type"] == "progress"]
    assert progress[0] == {"value": 1, "max": 8, "prompt_id": prompt_id, "node": "3"}
    assert all(one["max"] == 8 for one in progress)
    assert [one["value"] for one in progress] == sorted(one["value"] for one in progress)


async def test_progress_state_frames_stand_around_executing(comfy: Comfy):
    """A node is `running` in a progress_state before it is announced, and `finished` after."""
    async with comfy.ear() as ear:
        prompt_id = await comfy.submit(plain(some_color()), client_id=ear.client_id)
        frames = await ear.until_done(prompt_id)
    first = next(i for i, frame in enumerate(frames) if frame["type"] == "executing")
    before, after = frames[first - 1], frames[first + 1]
    node = frames[first]["data"]["node"]
    assert before["type"] == after["type"] == "progress_state"
    assert before["data"]["nodes"][node]["state"] == "running"
    assert after["data"]["nodes"][node] == {
        "value": 1.0,
        "max": 1.0,
        "state": "finished",
        "node_id": node,
        "prompt_id": prompt_id,
        "display_node_id": node,
        "parent_node_id": None,
        "real_node_id": node,
    }


async def test_history_is_there_when_null_arrives(comfy: Comfy):
    """On `executing` with node null the history entry exists, every time."""
    async with comfy.ear() as ear:
        for _ in range(10):
            prompt_id = await comfy.submit(plain(some_color()), client_id=ear.client_id)
            await ear.until_done(prompt_id)
            assert prompt_id in await comfy.get(f"/history/{prompt_id}")


async def test_observers_hear_status_only(comfy: Comfy):
    """Of somebody else's prompt a socket hears status frames and nothing more."""
    async with comfy.ear() as mine, comfy.ear() as other:
        prompt_id = await comfy.submit(plain(some_color()), client_id=mine.client_id)
        await mine.until_done(prompt_id)
        await other.until(lambda frame: frame["type"] == "status" and "sid" not in frame["data"])
        assert other.about(prompt_id) == []


async def test_prompt_without_client_id_broadcasts_progress_only(comfy: Comfy):
    """A prompt without a client tells everybody its progress, and nobody its start or its end."""
    async with comfy.ear() as ear:
        prompt_id = await comfy.submit(txt2img(some_color()))
        await comfy.entry(prompt_id)
        await ear.until(lambda frame: frame["type"] == "progress" and frame["data"]["prompt_id"] == prompt_id)
        kinds = {frame["type"] for frame in ear.about(prompt_id)}
    assert kinds == {"progress", "progress_state"}


async def test_prompt_of_an_absent_client_runs(comfy: Comfy):
    """A prompt whose client has no socket runs like any other."""
    prompt_id = await comfy.submit(plain(some_color()), client_id=uuid.uuid4().hex)
    assert (await comfy.entry(prompt_id))["status"]["status_str"] == "success"


async def test_cached_prompt_reports_old_names(comfy: Comfy):
    """The same graph again runs nothing, and reports the file that is there already."""
    graph = plain(some_color(), prefix=some_prefix())
    async with comfy.ear() as ear:
        first = await comfy.submit(graph, client_id=ear.client_id)
        second = await comfy.submit(graph, client_id=ear.client_id)
        await ear.until_done(first)
        frames = await ear.until_done(second)
    assert names(frames) == [
        "execution_start",
        "execution_cached",
        "executed:2",
        "execution_success",
        "executing:None",
    ]
    assert sorted(frames[1]["data"]["nodes"]) == ["1", "2"]
    assert await comfy.images(first, "2") == await comfy.images(second, "2")


async def test_new_prefix_runs_the_save_node_only(comfy: Comfy):
    """A graph that differs in its prefix alone saves again, under the new name."""
    color, prefix = some_color(), some_prefix()
    async with comfy.ear() as ear:
        first = await comfy.submit(plain(color, prefix=prefix), client_id=ear.client_id)
        second = await comfy.submit(plain(color, prefix=prefix + "b"), client_id=ear.client_id)
        await ear.until_done(first)
        frames = await ear.until_done(second)
    assert frames[1]["data"]["nodes"] == ["1"]
    assert [name for name in names(frames) if name.startswith("executing")] == ["executing:2", "executing:None"]
    assert [one["filename"] for one in await comfy.images(second, "2")] == ["pb_00001_.png"]


async def test_prompts_run_in_the_order_of_their_numbers(comfy: Comfy):
    """Prompts run as they were posted, except those sent to the front."""
    async with comfy.ear() as ear:
        long = await comfy.submit(txt2img(some_color(), steps=30), client_id=ear.client_id)
        await ear.until(lambda frame: frame["type"] == "progress")
        second = await comfy.submit(plain(some_color()), client_id=ear.client_id)
        third = await comfy.submit(plain(some_color()), client_id=ear.client_id, front=True)
        for prompt_id in (long, third, second):
            await ear.until_done(prompt_id)
    order = [frame["data"]["prompt_id"] for frame in ear.frames if frame["type"] == "execution_start"]
    assert order == [long, third, second]


async def test_feature_flags_are_answered_as_first_message(comfy: Comfy):
    """The server names its features to a client that names its own first."""
    async with comfy.ear(first=FLAGS) as ear:
        flags = await ear.until(lambda frame: frame["type"] == "feature_flags")
    assert flags["data"]["supports_preview_metadata"] is True


async def test_feature_flags_come_too_late_as_second_message(comfy: Comfy):
    """After any other message the features go unanswered, and nothing breaks."""
    async with comfy.ear(first="what is this?") as ear:
        await ear.connection.send('{"type": "noise"}')
        await ear.connection.send(FLAGS)
        prompt_id = await comfy.submit(plain(some_color()), client_id=ear.client_id)
        await ear.until_done(prompt_id)
    assert "feature_flags" not in {frame["type"] for frame in ear.frames}


async def test_reused_client_id_makes_the_new_socket_deaf(comfy: Comfy):
    """The new socket of a client id gets nothing more once the old one ends, yet answers pings."""
    client_id = uuid.uuid4().hex
    async with comfy.ear(client_id) as old, comfy.ear(client_id) as new, comfy.ear() as witness:
        await old.connection.close()
        # Only once the old handler has ended is the new socket deaf: prompts show when.
        async with asyncio.timeout(20):
            heard = -1
            while heard != len(new.frames):
                heard = len(new.frames)
                prompt_id = await comfy.submit(plain(some_color()), client_id=witness.client_id)
                await witness.until_done(prompt_id)
        pong = await new.connection.ping()
        async with asyncio.timeout(5):
            await pong


async def test_reconnecting_client_is_told_the_running_node(comfy: Comfy):
    """A client that reconnects during its own prompt gets the running node, without a prompt id, then the rest."""
    client_id = uuid.uuid4().hex
    async with comfy.ear(client_id) as ear:
        prompt_id = await comfy.submit(txt2img(some_color(), steps=60), client_id=client_id)
        await ear.until(lambda frame: frame["type"] == "progress")
    async with comfy.ear(client_id) as again:
        told = await again.until(lambda frame: frame["type"] == "executing")
        await again.until_done(prompt_id)
    assert told["data"] == {"node": "3"}
    assert "execution_start" not in {frame["type"] for frame in again.frames}


@since("0.5", "extra_data.preview_method")
async def test_previews_are_sent_on_request(comfy: Comfy):
    """`preview_method` brings binary frames of type 1: a format number, then a JPEG."""
    async with comfy.ear() as ear:
        prompt_id = await comfy.submit(
            txt2img(some_color()), client_id=ear.client_id, extra_data={"preview_method": "latent2rgb"}
        )
        await ear.until_done(prompt_id)
    assert ear.binary
    assert struct.unpack(">II", ear.binary[0][:8]) == (1, 1)
    assert ear.binary[0][8:11] == b"\xff\xd8\xff"


@since("0.5", "extra_data.preview_method")
async def test_previews_carry_metadata_for_those_who_can_read_it(comfy: Comfy):
    """A client that named the feature gets frames of type 4, which name prompt and node."""
    async with comfy.ear(first=FLAGS) as ear:
        prompt_id = await comfy.submit(
            txt2img(some_color()), client_id=ear.client_id, extra_data={"preview_method": "latent2rgb"}
        )
        await ear.until_done(prompt_id)
    kind, length = struct.unpack(">II", ear.binary[0][:8])
    assert kind == 4
    assert prompt_id.encode() in ear.binary[0][8 : 8 + length]
    assert ear.binary[0][8 + length :].startswith(b"\xff\xd8\xff")


async def test_no_previews_where_none_are_wanted(comfy: Comfy):
    """`preview_method` "none" keeps binary frames away."""
    async with comfy.ear() as ear:
        prompt_id = await comfy.submit(
            txt2img(some_color()), client_id=ear.client_id, extra_data={"preview_method": "none"}
        )
        await ear.until_done(prompt_id)
    assert ear.binary == []


async def test_websocket_saver_sends_a_png_and_lists_nothing(comfy: Comfy):
    """SaveImageWebsocket sends the picture itself, type 1 and format 2; history knows no output."""
    if await comfy.get("/object_info/SaveImageWebsocket") == {}:
        pytest.skip("this server was started without SaveImageWebsocket, which is a custom node")
    graph = plain(some_color())
    graph["2"] = {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}}
    async with comfy.ear() as ear:
        prompt_id = await comfy.submit(graph, client_id=ear.client_id)
        await ear.until_done(prompt_id)
    assert struct.unpack(">II", ear.binary[0][:8]) == (1, 2)
    assert ear.binary[0][8:12] == b"\x89PNG"
    assert (await comfy.entry(prompt_id))["outputs"] == {}
