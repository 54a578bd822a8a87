"""/api/jobs: the prompts of queue and history as jobs, each with a status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reggen.sim.state.model import QueuedPrompt
from reggen.sim.state.world import World

STATUSES = ("pending", "in_progress", "completed", "failed", "cancelled")
_SORTS = ("created_at", "execution_duration")
_ENDINGS = {
    "execution_success": "completed",
    "execution_error": "failed",
    "execution_interrupted": "cancelled",
}

JobEntry = dict[str, Any]


class BadQueryError(ValueError):
    """A query that is answered with 400; the message is the answer."""


def find(world: World, prompt_id: str) -> JobEntry | None:
    """One job with all its details; None if the server knows no such prompt."""
    if prompt_id in world.history:
        entry = world.history[prompt_id]
        details = {
            "outputs": entry["outputs"],
            "execution_status": entry["status"],
            "workflow": {"prompt": entry["prompt"][2], "extra_data": entry["prompt"][3]},
        }
        return _finished(prompt_id, entry) | details
    return next((job for job in _waiting(world) if job["id"] == prompt_id), None)


def listing(world: World, query: Mapping[str, str]) -> dict[str, Any]:
    """The jobs that match a query, sorted and cut to a page. Raises BadQueryError."""
    wanted = _statuses(query)
    limit = _number(query, "limit", least=1)
    offset = _number(query, "offset") or 0
    key, newest_first = _sorting(query)
    jobs = _waiting(world) + [_finished(*pair) for pair in world.history.items()]
    jobs = [job for job in jobs if job["status"] in wanted]
    if "workflow_id" in query:
        jobs = [job for job in jobs if job.get("workflow_id") == query["workflow_id"]]
    jobs.sort(key=key, reverse=newest_first)
    page = jobs[offset:] if limit is None else jobs[offset : offset + limit]
    more = offset + len(page) < len(jobs)
    pagination = {"offset": offset, "limit": limit, "total": len(jobs), "has_more": more}
    return {"jobs": page, "pagination": pagination}


def cancel(world: World, prompt_id: str) -> bool:
    """Stop or dequeue a prompt; False if it neither runs nor waits."""
    return world.interrupt_if_running(prompt_id) or world.delete(prompt_id)


def _statuses(query: Mapping[str, str]) -> tuple[str, ...]:
    wanted = tuple(word.strip().lower() for word in query.get("status", "").split(",") if word.strip())
    unknown = [word for word in wanted if word not in STATUSES]
    if unknown:
        valid = ", ".join(STATUSES)
        raise BadQueryError(f"Invalid status value(s): {', '.join(unknown)}. Valid values: {valid}")
    return wanted or STATUSES


def _number(query: Mapping[str, str], name: str, least: int | None = None) -> int | None:
    if name not in query:
        return None
    try:
        value = int(query[name])
    except ValueError:
        raise BadQueryError(f"{name} must be an integer") from None
    if least is not None and value < least:
        raise BadQueryError(f"{name} must be a positive integer")
    return max(0, value)


def _sorting(query: Mapping[str, str]) -> tuple[Any, bool]:
    field, direction = query.get("sort_by", "created_at"), query.get("sort_order", "desc")
    if field not in _SORTS:
        raise BadQueryError("sort_by must be 'created_at' or 'execution_duration'")
    if direction not in ("asc", "desc"):
        raise BadQueryError("sort_order must be 'asc' or 'desc'")
    return (_duration if field == "execution_duration" else _created), direction == "desc"


def _created(job: JobEntry) -> int:
    return int(job.get("create_time", 0))


def _duration(job: JobEntry) -> int:
    return int(job.get("execution_end_time", 0)) - int(job.get("execution_start_time", 0))


def _waiting(world: World) -> list[JobEntry]:
    running = [_queued(world.running, "in_progress")] if world.running is not None else []
    return [_queued(item, "pending") for item in world.pending] + running


def _queued(item: QueuedPrompt, status: str) -> JobEntry:
    job = _base(item.prompt_id, status, item.number, item.extra)
    job |= {"outputs_count": 0, "previewable_outputs_count": 0}
    return job | _workflow(item.extra)


def _finished(prompt_id: str, entry: dict[str, Any]) -> JobEntry:
    number, _, _, extra, _ = entry["prompt"]
    messages = dict(entry["status"]["messages"])
    ending = next((name for name in _ENDINGS if name in messages), "execution_success")
    job = _base(prompt_id, _ENDINGS[ending], number, extra)
    job["execution_start_time"] = messages["execution_start"].get("timestamp")
    job["execution_end_time"] = messages.get(ending, {}).get("timestamp")
    if ending == "execution_error":
        job["execution_error"] = messages[ending]
    files = [
        {**image, "nodeId": node_id, "mediaType": media}
        for node_id, output in entry["outputs"].items()
        for media, images in output.items()
        for image in images
    ]
    job |= {"outputs_count": len(files), "previewable_outputs_count": len(files)}
    if files:
        job["preview_output"] = next((file for file in files if file["type"] == "output"), files[0])
    return job | _workflow(extra)


def _base(prompt_id: str, status: str, number: float, extra: dict[str, Any]) -> JobEntry:
    job = {"id": prompt_id, "status": status, "priority": number}
    return job | ({"create_time": extra["create_time"]} if "create_time" in extra else {})


def _workflow(extra: dict[str, Any]) -> JobEntry:
    # Raises on an extra_pnginfo that is no object of objects, as the server does: such a prompt
    # spoils this page for everybody until it has left the history.
    workflow_id = extra.get("extra_pnginfo", {}).get("workflow", {}).get("id")
    return {} if workflow_id is None else {"workflow_id": workflow_id}
