"""The pure world: queue, cache, files, history and executions, under an invented clock."""

from __future__ import annotations

import random
from typing import Any

import pytest

from reggen.sim import Settings
from reggen.sim.http import routes
from reggen.sim.http.reply import HttpReply, HttpRequest
from reggen.sim.state import jobs
from reggen.sim.state.disk import Disk, File
from reggen.sim.state.model import Ending, Frame, Mishap, Pause, PictureFrame
from reggen.sim.state.world import World

Graph = dict[str, Any]


def txt2img(seed: int = 1, *, prefix: str = "reg", steps: int = 20, **latent: Any) -> Graph:
    """The classic graph."""
    sampler = {
        "seed": seed,
        "steps": steps,
        "cfg": 7.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
        "model": ["4", 0],
        "positive": ["6", 0],
        "negative": ["7", 0],
        "latent_image": ["5", 0],
    }
    size = {"width": 64, "height": 64, "batch_size": 1, **latent}
    checkpoint = {"ckpt_name": "AnythingXL_inkBase.safetensors"}
    return {
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": checkpoint},
        "5": {"class_type": "EmptyLatentImage", "inputs": size},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "a longer text that is bad", "clip": ["4", 1]}},
        "3": {"class_type": "KSampler", "inputs": sampler},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": prefix}},
    }


def plain(color: int, prefix: str = "p") -> Graph:
    """One colour, saved."""
    empty = {"width": 16, "height": 16, "batch_size": 1, "color": color}
    save = {"images": ["1", 0], "filename_prefix": prefix}
    return {"1": {"class_type": "EmptyImage", "inputs": empty}, "2": {"class_type": "SaveImage", "inputs": save}}


def world(**settings: Any) -> World:
    """A server that has just started."""
    return World(Settings(**settings), Disk(), random.Random(1))


def submit(one: World, graph: Graph, now: float = 1000.0, **more: Any) -> str:
    """Post a prompt that must be accepted; its id."""
    status, body = one.submit({"prompt": graph, "client_id": "me", **more}, now)
    assert status == 200, body
    return str(body["prompt_id"])


def run(one: World, mishap: Mishap | None = None, now: float = 2000.0) -> tuple[Ending | None, float]:
    """Run the next prompt; its ending and how many seconds it took."""
    assert one.take() is not None
    began, execution = now, one.execute(mishap, now)
    try:
        pause = next(execution)
        while True:
            assert isinstance(pause, Pause)
            now += pause.seconds
            pause = execution.send(now)
    except StopIteration as stop:
        ending: Ending | None = stop.value
        return ending, now - began


def done(one: World, graph: Graph, mishap: Mishap | None = None, **more: Any) -> Any:
    """Post a prompt, run it, and give its history entry."""
    prompt_id = submit(one, graph, **more)
    run(one, mishap)
    return one.history[prompt_id]


def sent(one: World) -> list[str]:
    """The frames since last asked, by type; progress left out."""
    names = [
        f"{frame.event}:{frame.data['node']}" if frame.event == "executing" else frame.event
        for frame in one.outbox
        if isinstance(frame, Frame) and not frame.event.startswith("progress")
    ]
    one.outbox.clear()
    return names


def filenames(entry: Any, node: str = "9") -> list[str]:
    """What a node has saved."""
    return [image["filename"] for image in entry["outputs"][node]["images"]]


def test_busy_time_is_the_setting():
    """A sampled picture takes the time that was set, a batch of two twice that, a plain one the other."""
    one = world(seconds=1.0, trivial_seconds=0.25, history_lag=0.0)
    spent = []
    for graph in (txt2img(1), txt2img(2, batch_size=2), plain(1)):
        submit(one, graph)
        spent.append(run(one)[1])
    assert spent == pytest.approx([1.0, 2.0, 0.25])


def test_history_comes_after_success():
    """When `execution_success` is sent the entry is not there yet; saving has taken its time before that."""
    one = world()
    prompt_id = submit(one, plain(1))
    one.take()
    execution = one.execute(None, 1.0)
    next(execution)
    execution.send(1.1)
    assert "execution_success" not in sent(one)
    execution.send(1.15)
    frame = one.outbox[-1]
    assert isinstance(frame, Frame)
    assert (frame.event, frame.data["timestamp"]) == ("execution_success", 1150)
    one.outbox.clear()
    assert prompt_id not in one.history
    with pytest.raises(StopIteration):
        execution.send(1.2)
    assert prompt_id in one.history
    assert sent(one) == ["status", "executing:None"]


def test_messages_carry_the_time_of_day():
    """Timestamps are milliseconds of the clock that was passed in."""
    one = world(seconds=2.0, history_lag=0.0)
    messages = done(one, txt2img(steps=1))["status"]["messages"]
    assert [data["timestamp"] for _, data in messages] == [2_000_000, 2_000_000, 2_002_000]


def test_progress_is_throttled():
    """A long sampling tells the first step, the last, and one about every tenth of a second."""
    one = world(seconds=1.0)
    submit(one, txt2img(steps=100))
    run(one)
    values = [f.data["value"] for f in one.outbox if isinstance(f, Frame) and f.event == "progress"]
    assert (values[0], values[-1]) == (1, 100)
    assert 9 <= len(values) <= 12


def test_old_servers_tell_every_step():
    """Before 0.9.2 nothing was throttled."""
    one = world(seconds=1.0, version="2024-10")
    submit(one, txt2img(steps=30))
    run(one)
    assert sum(isinstance(f, Frame) and f.event == "progress" for f in one.outbox) == 30


def test_default_cache_keeps_the_previous_prompt_only():
    """A graph comes out of the cache right away, and no more after another one has run."""
    one = world()
    assert filenames(done(one, txt2img(1))) == ["reg_00001_.png"]
    assert filenames(done(one, txt2img(1))) == ["reg_00001_.png"]
    assert filenames(done(one, txt2img(2))) == ["reg_00002_.png"]
    assert filenames(done(one, txt2img(1))) == ["reg_00003_.png"]


def test_lru_cache_keeps_earlier_prompts():
    """With a cache of some size an earlier graph reports its old file."""
    one = world(cache_lru=100)
    for seed, name in ((1, "reg_00001_.png"), (2, "reg_00002_.png"), (1, "reg_00001_.png")):
        assert filenames(done(one, txt2img(seed))) == [name]


def test_cached_name_may_show_another_picture():
    """A file deleted and its number taken again: the cached prompt reports a name with wrong pixels."""
    one = world(cache_lru=100)
    done(one, plain(0xFF0000))
    one.disk.delete("output", "", "p_00001_.png")
    done(one, plain(0x0000FF))
    entry = done(one, plain(0xFF0000))
    assert filenames(entry, "2") == ["p_00001_.png"]
    file = one.disk.find("output", "", "p_00001_.png")
    assert file is not None
    assert file.picture.color == 0x0000FF


def test_shared_nodes_survive_into_the_next_prompt():
    """Only what differs runs again."""
    one = world()
    done(one, txt2img(1))
    one.outbox.clear()
    entry = done(one, txt2img(2))
    assert entry["status"]["messages"][1][1]["nodes"] == ["4", "5", "6", "7"]
    assert [name for name in sent(one) if name.startswith("executing:")] == [
        "executing:3",
        "executing:8",
        "executing:9",
        "executing:None",
    ]


def test_prefixes_are_filled_in():
    """Size and date in a prefix are replaced, and its folders become the sub-folder."""
    entry = done(world(), txt2img(prefix="run/%width%x%height%/%year%/p", width=72))
    (image,) = entry["outputs"]["9"]["images"]
    assert image == {"filename": "p_00001_.png", "subfolder": "run/72x64/1970", "type": "output"}


def test_numbers_continue_after_the_highest():
    """Deleting a file in the middle changes nothing; deleting the highest gives its number back."""
    one = world()
    for color in (1, 2, 3):
        done(one, plain(color))
    one.disk.delete("output", "", "p_00001_.png")
    assert filenames(done(one, plain(4)), "2") == ["p_00004_.png"]
    one.disk.delete("output", "", "p_00004_.png")
    assert filenames(done(one, plain(5)), "2") == ["p_00004_.png"]


def test_restart_wipes_temp_and_keeps_output():
    """A new life on the same disk finds the saved files and no previews."""
    disk = Disk()
    one = World(Settings(), disk, random.Random(1))
    done(one, {**plain(1), "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}})
    again = World(Settings(), disk, random.Random(2))
    assert [folder for folder, _, _ in disk.files] == ["output"]
    assert again.history == {}
    assert submit(again, plain(2))


def test_pictures_are_described_by_the_graph():
    """A saved file shows the positive prompt, the seed and the size of its own graph."""
    one = world()
    done(one, txt2img(77, width=100, height=72, batch_size=2))
    shown = [file.picture for file in one.disk.files.values()]
    assert [(p.text, p.seed, p.width, p.height, p.index) for p in shown] == [
        ("a cat", 77, 96, 72, 0),
        ("a cat", 77, 96, 72, 1),
    ]


def test_history_is_capped():
    """The oldest entries go when there are too many."""
    one = world(history_limit=3)
    ids = [submit(one, plain(color)) for color in range(5)]
    for _ in ids:
        run(one)
    assert list(one.history) == ids[-3:]


def test_same_id_and_number_kill_the_worker():
    """The second of two equal prompts is a 500, yet queued; the worker dies when it has to compare them."""
    one = world()
    prompt_id = "6043546d-d4d9-426e-a359-ef43c0b4d82f"
    submit(one, plain(1))
    assert one.take() is not None
    submit(one, plain(2), prompt_id=prompt_id, number=7)
    with pytest.raises(TypeError):
        submit(one, plain(2), prompt_id=prompt_id, number=7, now=1001.0)
    assert len(one.pending) == 2
    one.vanish()
    submit(one, plain(3))
    while one.take() is not None:
        one.vanish()
    assert one.dead
    assert one.running is None
    assert one.pending
    assert submit(one, plain(4))
    assert not one.has_work


def test_node_without_inputs_kills_the_worker():
    """A dead node without inputs passes validation; the prompt then runs for ever."""
    one = world()
    prompt_id = submit(one, {**plain(1), "50": {"class_type": "VAEDecode"}})
    ending, _ = run(one)
    assert ending is None
    assert one.dead
    assert one.running is not None
    assert one.running.prompt_id == prompt_id
    assert sent(one)[-1] == "execution_start"
    assert one.interrupt_if_running(prompt_id)
    assert not one.has_work


def test_clear_leaves_the_running_prompt():
    """An emptied queue forgets what waits, and what runs goes on."""
    one = world()
    running = submit(one, plain(1))
    submit(one, plain(2))
    assert one.take() is not None
    one.clear()
    assert one.pending == []
    assert one.running is not None
    assert one.running.prompt_id == running
    assert one.status == {"exec_info": {"queue_remaining": 1}}


def test_numbers_count_up_from_nothing():
    """The first prompt has number 0; refused ones count, those with a number of their own do not."""
    one = world()
    bodies: list[Graph] = [{"prompt": plain(1)}, {"prompt": {}}, {"prompt": plain(2), "number": 9}]
    bodies += [{"prompt": plain(3), "front": True}, {"prompt": plain(4)}]
    assert [one.submit(body, 1.0)[1].get("number") for body in bodies] == [0, None, 9.0, -2, 3]


def test_lead_in_of_a_prompt():
    """One status for the queue, one for the taking, then the start."""
    one = world()
    submit(one, plain(1))
    run(one)
    assert sent(one)[:4] == ["status", "status", "execution_start", "execution_cached"]


def test_interrupt_flag_dies_with_the_next_start():
    """Interrupting an idle server does nothing to what comes later."""
    one = world()
    one.interrupt()
    assert done(one, plain(1))["status"]["status_str"] == "success"


def test_old_interrupt_ignores_its_aim():
    """Before 0.3.57 an interrupt aimed at a waiting prompt stopped the running one."""
    one = world(version="2024-10")
    submit(one, txt2img(1))
    waiting = submit(one, plain(2))
    one.take()
    execution = one.execute(None, 1.0)
    next(execution)
    one.interrupt(waiting)
    with pytest.raises(StopIteration) as stop:
        execution.send(1.5)
    assert stop.value.value.success is False


def test_failure_names_node_and_type():
    """A node can be made to fail with any exception; the sampler is struck unless another is named."""
    one = world()
    entry = done(one, txt2img(1), Mishap("fail", "torch.OutOfMemoryError", "no room"))
    event, data = entry["status"]["messages"][-1]
    assert (event, data["node_id"], data["exception_type"]) == ("execution_error", "3", "torch.OutOfMemoryError")
    assert data["exception_message"].startswith("no room\nThis error means")
    entry = done(one, txt2img(2), Mishap("fail", "OSError", "[Errno 28]", node="SaveImage"))
    assert entry["status"]["messages"][-1][1]["node_id"] == "9"


def test_blank_success_saves_nothing():
    """A prompt may succeed without outputs."""
    one = world()
    entry = done(one, txt2img(), Mishap("blank"))
    assert (entry["status"]["status_str"], entry["outputs"]) == ("success", {})
    assert one.disk.files == {}


def test_blocked_prompt_errs_and_succeeds():
    """A blocker sends execution_error, without a time, and then success."""
    one = world()
    entry = done(one, txt2img(), Mishap("blocked", message="not today"))
    names = sent(one)
    assert names[-4:] == ["execution_error", "execution_success", "status", "executing:None"]
    assert entry["status"]["status_str"] == "success"
    assert "execution_error" not in [event for event, _ in entry["status"]["messages"]]


def test_blank_success_is_not_remembered():
    """The same graph after a success without pictures gives the picture."""
    one = world()
    done(one, txt2img(), Mishap("blank"))
    assert filenames(done(one, txt2img())) == ["reg_00001_.png"]


def test_only_wanted_nodes_run():
    """What only cached nodes would read from does not run again, and costs nothing."""
    one = world(cache_lru=2, seconds=5.0, history_lag=0.0)
    done(one, txt2img(1))
    done(one, plain(1))
    done(one, plain(2))
    submit(one, txt2img(1, prefix="other"))
    assert run(one)[1] == pytest.approx(5.0)
    kept = world(cache_lru=8, seconds=5.0, history_lag=0.0)
    done(kept, txt2img(1))
    done(kept, plain(1))
    submit(kept, txt2img(1, prefix="other"))
    assert run(kept)[1] == pytest.approx(kept.settings.trivial_seconds)


def test_failure_named_after_a_cached_node_strikes_what_runs():
    """A fault that names a node which does not run strikes the sampler."""
    one = world()
    done(one, txt2img(1))
    entry = done(one, txt2img(2), Mishap("fail", node="CheckpointLoaderSimple"))
    assert entry["status"]["messages"][-1][1]["node_id"] == "3"


def test_looks_are_saved_with_the_file():
    """A black picture is black in the file, under an ordinary name."""
    one = world()
    entry = done(one, txt2img(), Mishap("appearance", appearance="black"))
    assert filenames(entry) == ["reg_00001_.png"]
    assert [file.picture.appearance for file in one.disk.files.values()] == ["black"]


def test_poisonous_extra_info_spoils_the_jobs_page():
    """extra_pnginfo that is no object breaks /api/jobs for everybody until it leaves history."""
    one = world()
    entry = done(one, plain(1), extra_data={"extra_pnginfo": "hi"})
    assert entry["status"]["messages"][-1][1]["exception_type"] == "TypeError"
    ask = HttpRequest("GET", "/jobs", api=True)
    assert status(one, ask) == 500
    one.history.clear()
    assert status(one, ask) == 200


def status(one: World, ask: HttpRequest) -> int:
    """The status of an answer."""
    reply = routes.answer(one, ask)
    assert isinstance(reply, HttpReply)
    return reply.status


@pytest.mark.parametrize(
    ("version", "asked", "given"),
    [
        ("0.3.64", {"prompt_id": "any string"}, "any string"),
        ("0.3.64", {"prompt_id": None}, "None"),
        ("2024-10", {"prompt_id": "6043546d-d4d9-426e-a359-ef43c0b4d82f"}, None),
    ],
)
def test_old_servers_and_prompt_ids(version: str, asked: dict[str, Any], given: str | None):
    """An id of the client's choice was once taken as it came, and before that not at all."""
    prompt_id = submit(world(version=version), plain(1), **asked)
    assert prompt_id == given or (given is None and prompt_id != asked["prompt_id"])


@pytest.mark.parametrize("version", ["0.3.64", "2024-10", "2024-07"])
def test_old_servers_have_no_jobs(version: str):
    """/api/jobs is younger than these."""
    assert status(world(version=version), HttpRequest("GET", "/jobs", api=True)) == 404


def test_unknown_version_is_refused():
    """A server that was never measured cannot be played."""
    with pytest.raises(ValueError, match=r"version '0\.1' is not one of 0\.33\.0"):
        Settings(version="0.1")


def test_lenient_server_takes_any_workflow():
    """Unknown classes and names are accepted; prompt, seed and size are found upstream."""
    graph: Graph = {
        "a": {"class_type": "FancyLoader", "inputs": {"name": "flux.sft"}},
        "t": {"class_type": "FancyText", "inputs": {"text": "a red fox", "clip": ["a", 1]}},
        "w": {"class_type": "PrimitiveInt", "inputs": {"value": 96}},
        "l": {"class_type": "FancyLatent", "inputs": {"width": ["w", 0], "height": 64, "batch_size": 1}},
        "n": {"class_type": "RandomNoise", "inputs": {"noise_seed": 4711}},
        "s": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {"noise": ["n", 0], "positive": ["t", 0], "latent_image": ["l", 0]},
        },
        "d": {"class_type": "FancyDecode", "inputs": {"samples": ["s", 0]}},
        "o": {"class_type": "SaveImagePlus", "inputs": {"images": ["d", 0], "filename_prefix": "x"}},
    }
    one = world(lenient=True, seconds=1.0, history_lag=0.0)
    submit(one, graph)
    ending, spent = run(one)
    (file,) = one.disk.files.values()
    picture = file.picture
    assert ending is not None
    assert spent == pytest.approx(1.0)
    assert (picture.text, picture.seed, picture.width, picture.height) == ("a red fox", 4711, 96, 64)
    assert world().submit({"prompt": graph}, 0.0)[0] == 400


def test_lenient_server_takes_any_model_name():
    """Names of models and samplers are not looked up, limits are still kept."""
    graph = txt2img()
    graph["4"]["inputs"]["ckpt_name"] = "whatever.safetensors"
    graph["3"]["inputs"]["sampler_name"] = "unheard_of"
    assert submit(world(lenient=True), graph)
    graph["3"]["inputs"]["steps"] = 0
    assert world(lenient=True).submit({"prompt": graph}, 0.0)[0] == 400


def test_previews_only_where_they_are_wanted():
    """A server with previews sends them, unless the prompt says none."""
    one = world(previews=True)
    done(one, txt2img(1))
    assert any(isinstance(frame, PictureFrame) for frame in one.outbox)
    one.outbox.clear()
    done(one, txt2img(2), extra_data={"preview_method": "none"})
    assert not any(isinstance(frame, PictureFrame) for frame in one.outbox)


def test_view_is_located_without_a_disk():
    """A request for a file comes back as the file that is to be painted."""
    one = world()
    done(one, plain(1))
    found = routes.answer(one, HttpRequest("GET", "/view", query={"filename": "p_00001_.png"}))
    assert isinstance(found, File)


def test_cancelled_jobs_are_told_from_failed_ones():
    """The last message decides the status of a job."""
    one = world()
    done(one, txt2img(1), Mishap("interrupt"))
    done(one, txt2img(2), Mishap("fail"))
    done(one, txt2img(3))
    listed = jobs.listing(one, {"sort_by": "execution_duration", "sort_order": "asc"})["jobs"]
    assert sorted(job["status"] for job in listed) == ["cancelled", "completed", "failed"]
    with pytest.raises(jobs.BadQueryError, match="sort_by"):
        jobs.listing(one, {"sort_by": "beauty"})
