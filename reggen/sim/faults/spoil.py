"""What a fault turns an answer or an execution into. Pure: the server only carries it out."""

from __future__ import annotations

from collections.abc import Iterable

from reggen.sim.faults import hostile
from reggen.sim.faults.script import Fault
from reggen.sim.http.reply import HttpReply, HttpRequest, as_json
from reggen.sim.state.model import Mishap

_LOGIN = b"<!doctype html><html><head><title>Sign in</title></head><body>Who are you?</body></html>"
_HTML = b"<html><head><title>Bad gateway</title></head><body><h1>Something else lives here</h1></body></html>"


def stream_of(ask: HttpRequest) -> str:
    """The fault stream that a request belongs to."""
    first = ask.parts[0]
    if ask.method == "POST":
        return "post" if ask.path == "/prompt" else "other"
    if first in ("queue", "prompt", "jobs"):
        return "queue"
    return first if first in ("view", "history") else "other"


def locked(status: int) -> HttpReply:
    """What a server says to everything while somebody in front of it lets nobody in."""
    if status == 200:
        return HttpReply(200, _LOGIN, "text/html")
    return HttpReply(status, f"{status}: you may not".encode(), "text/plain")


def replacement(fault: Fault, reply: HttpReply, asked: str = "") -> HttpReply:
    """The answer that takes the place of the right one to a request for this path and query."""
    if fault.do == "status":
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        text = f"{fault.status}: no answer from upstream".encode()
        return HttpReply(fault.status, text, "text/plain", headers, reply.prompt_id)
    if fault.do == "redirect":
        status = fault.status if 300 <= fault.status < 400 else 302
        return HttpReply(status, b"", "", {"Location": fault.to + asked}, reply.prompt_id)
    if fault.do == "odd":
        return hostile.odd(fault.body)
    if fault.do == "html":
        return HttpReply(200, _HTML, "text/html", {}, reply.prompt_id)
    if fault.do == "reject":
        error = {
            "type": "prompt_outputs_failed_validation",
            "message": "Prompt outputs failed validation",
            "details": fault.message,
            "extra_info": {},
        }
        return as_json({"error": error, "node_errors": {}}, 400)
    return reply


def mishap_of(faults: Iterable[Fault]) -> Mishap | None:
    """What goes wrong inside an execution; the first fault that says so decides."""
    return next((found for fault in faults if (found := _mishap(fault)) is not None), None)


def _mishap(fault: Fault) -> Mishap | None:
    match fault.do:
        case "fail":
            return Mishap("fail", fault.exception, fault.message, fault.node)
        case "oom":
            message = "CUDA out of memory. Tried to allocate 2.00 GiB. (rehearsed)"
            return Mishap("fail", "torch.OutOfMemoryError", message, fault.node)
        case "black" | "flat" | "noise" | "wrong":
            return Mishap("look", look=fault.do)
        case "blank":
            return Mishap("blank")
        case "blocked":
            return Mishap("blocked", message=fault.message)
        case "interrupt":
            return Mishap("interrupt", node=fault.node)
        case "zombie" if fault.face == "running":
            return Mishap("die")
    return None
