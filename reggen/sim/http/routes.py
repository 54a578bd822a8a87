"""Every route but the socket: a request and the world in, an answer out. No I/O.

`answer` is the interface. A request for a picture is answered with the `File` to be painted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from reggen.sim.http import view
from reggen.sim.http.reply import SERVER_ERROR, HttpReply, HttpRequest, as_json, as_text
from reggen.sim.state import jobs
from reggen.sim.state.disk import File
from reggen.sim.state.specs import FOLDERS
from reggen.sim.state.world import World, is_canonical

Handler = Callable[[World, HttpRequest], HttpReply]

FEATURES: dict[str, Any] = {
    "supports_preview_metadata": True,
    "supports_model_type_tags": True,
    "max_upload_size": 104857600,
    "extension": {"manager": {"supports_v4": True}},
    "node_replacements": True,
    "assets": False,
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def answer(world: World, request: HttpRequest) -> HttpReply | File:
    """Do what a request asks for, and return the answer, or the file whose picture is the answer."""
    if world.traits.origin_check and is_foreign(request):
        return HttpReply(403)
    if request.method in ("GET", "HEAD") and request.path == "/view":
        found = view.locate(world.disk, request.query)
        return HttpReply(found) if isinstance(found, int) else found
    try:
        return _dispatch(world, request)
    except jobs.BadQueryError as error:
        return as_json({"error": str(error)}, 400)
    except (LookupError, TypeError, ValueError, AttributeError):
        return SERVER_ERROR  # ComfyUI's handlers do not check what they are sent


def _dispatch(world: World, request: HttpRequest) -> HttpReply:
    method = "GET" if request.method == "HEAD" else request.method
    table = _TABLE | _JOBS if request.api and world.traits.jobs else _TABLE
    keys = (request.path, *_patterns(request.parts))
    for key in keys:
        if (method, key) in table:
            return table[method, key](world, request)
    if any((other, key) in table for other in ("GET", "POST") for key in keys):
        return as_text("405: Method Not Allowed", 405)
    return HttpReply(404)


def _patterns(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The path with its second segment, a name or an id, replaced by a star."""
    if len(parts) < 2:
        return ()
    return ("/".join(("", parts[0], "*", *parts[2:])),)


def is_foreign(request: HttpRequest) -> bool:
    """True if a browser page of another origin is talking to a loopback server."""
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if not origin or urlsplit(f"//{host}").hostname not in _LOOPBACK:
        return False
    return urlsplit(origin).netloc.lower() != host.lower()


def _post_prompt(world: World, request: HttpRequest) -> HttpReply:
    status, body = world.submit(request.json(), request.at)
    return as_json(body, status, body.get("prompt_id"))


def _get_prompt(world: World, _request: HttpRequest) -> HttpReply:
    return as_json(world.status)


def _get_queue(world: World, _request: HttpRequest) -> HttpReply:
    running = [] if world.running is None else [world.running.as_list()]
    return as_json({"queue_running": running, "queue_pending": [prompt.as_list() for prompt in world.pending]})


def _post_queue(world: World, request: HttpRequest) -> HttpReply:
    body = request.json()
    if body.get("clear"):
        world.clear()
    for prompt_id in body.get("delete", ()):
        world.delete(prompt_id)
    return HttpReply(200)


def _get_history(world: World, request: HttpRequest) -> HttpReply:
    max_items = int(request.query["max_items"]) if "max_items" in request.query else None
    offset = int(request.query["offset"]) if "offset" in request.query and world.traits.history_offset else -1
    return as_json(world.history.page(max_items, offset))


def _get_history_of(world: World, request: HttpRequest) -> HttpReply:
    prompt_id = request.parts[1]
    entry = world.history.get(prompt_id)
    return as_json({} if entry is None else {prompt_id: entry}, prompt_id=prompt_id)


def _post_history(world: World, request: HttpRequest) -> HttpReply:
    body = request.json()
    if body.get("clear"):
        world.history.clear()
    for prompt_id in body.get("delete", ()):
        world.history.pop(prompt_id, None)
    return HttpReply(200)


def _post_interrupt(world: World, request: HttpRequest) -> HttpReply:
    try:
        body = request.json()
    except json.JSONDecodeError:
        body = {}
    prompt_id = body.get("prompt_id")
    world.interrupt(prompt_id)
    return HttpReply(200, prompt_id=prompt_id)


def _post_free(world: World, request: HttpRequest) -> HttpReply:
    world.free(request.json())
    return HttpReply(200)


def _get_object_info(world: World, _request: HttpRequest) -> HttpReply:
    return as_json(world.specs.classes)


def _get_object_info_of(world: World, request: HttpRequest) -> HttpReply:
    name = request.parts[1]
    described = world.specs.described(name)
    return as_json({name: described} if described else {})


def _get_models(_world: World, _request: HttpRequest) -> HttpReply:
    return as_json(list(FOLDERS))


def _get_models_in(world: World, request: HttpRequest) -> HttpReply:
    names = world.specs.models(request.parts[1])
    return HttpReply(404) if names is None else as_json(names)


def _get_features(world: World, _request: HttpRequest) -> HttpReply:
    return as_json(FEATURES) if world.traits.progress_state else HttpReply(404)


def _get_system_stats(world: World, _request: HttpRequest) -> HttpReply:
    system: dict[str, Any] = {"os": "linux", "ram_total": 2**34, "ram_free": 2**33}
    if world.traits.reported is not None:
        system["comfyui_version"] = world.traits.reported
    system |= {"python_version": "3.11.7", "pytorch_version": "2.15.0", "embedded_python": False}
    memory = {"vram_total": 2**34, "vram_free": 2**33, "torch_vram_total": 2**33, "torch_vram_free": 2**33}
    device = {"name": "rehearsal", "type": "cpu", "index": None, **memory}
    return as_json({"system": {**system, "argv": ["main.py", "--cpu"]}, "devices": [device]})


def _get_jobs(world: World, request: HttpRequest) -> HttpReply:
    return as_json(jobs.listing(world, request.query))


def _get_job(world: World, request: HttpRequest) -> HttpReply:
    prompt_id = request.parts[1]
    job = jobs.find(world, prompt_id)
    found = as_json({"error": "Job not found"}, 404) if job is None else as_json(job)
    return HttpReply(found.status, found.body, found.content_type, prompt_id=prompt_id)


def _cancel_job(world: World, request: HttpRequest) -> HttpReply:
    prompt_id = request.parts[1]
    return as_json({"cancelled": jobs.cancel(world, prompt_id)}, prompt_id=prompt_id)


def _cancel_jobs(world: World, request: HttpRequest) -> HttpReply:
    try:
        body = request.json()
    except json.JSONDecodeError:
        return as_json({"error": "Request body must be valid JSON"}, 400)
    wanted = body.get("job_ids") if isinstance(body, dict) else None
    if not isinstance(wanted, list):
        return as_json({"error": "job_ids must be a list"}, 400)
    invalid = [one if isinstance(one, str) else repr(one) for one in wanted if not is_canonical(one)]
    if invalid:
        return as_json({"error": "job_ids contains invalid id(s)", "invalid_ids": invalid}, 400)
    signalled = [jobs.cancel(world, one) for one in wanted]
    return as_json({"cancelled": any(signalled)})


_TABLE: dict[tuple[str, str], Handler] = {
    ("POST", "/prompt"): _post_prompt,
    ("GET", "/prompt"): _get_prompt,
    ("GET", "/queue"): _get_queue,
    ("POST", "/queue"): _post_queue,
    ("GET", "/history"): _get_history,
    ("GET", "/history/*"): _get_history_of,
    ("POST", "/history"): _post_history,
    ("POST", "/interrupt"): _post_interrupt,
    ("POST", "/free"): _post_free,
    ("GET", "/object_info"): _get_object_info,
    ("GET", "/object_info/*"): _get_object_info_of,
    ("GET", "/models"): _get_models,
    ("GET", "/models/*"): _get_models_in,
    ("GET", "/features"): _get_features,
    ("GET", "/system_stats"): _get_system_stats,
}

_JOBS: dict[tuple[str, str], Handler] = {
    ("GET", "/jobs"): _get_jobs,
    ("GET", "/jobs/*"): _get_job,
    ("POST", "/jobs/cancel"): _cancel_jobs,
    ("POST", "/jobs/*/cancel"): _cancel_job,
}
