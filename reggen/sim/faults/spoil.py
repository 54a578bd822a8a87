"""The answer or execution that a fault makes out of a right one. Pure: the server carries it out."""

from __future__ import annotations

from collections.abc import Iterable

from reggen.sim.faults import hostile
from reggen.sim.faults.script import Fault
from reggen.sim.http.reply import HttpReply, HttpRequest, as_json
from reggen.sim.state.model import Mishap

_LOGIN = b"<!doctype html><html><head><title>Sign in</title></head><body>Who are you?</body></html>"
_HTML = b"<html><head><title>Bad gateway</title></head><body><h1>Something else lives here</h1></body></html>"


def stream_of(request: HttpRequest) -> str:
    """The fault stream that counts this request."""
    first = request.parts[0]
    if request.method == "POST":
        return "post" if request.path == "/prompt" else "other"
    if first in ("queue", "prompt", "jobs"):
        return "queue"
    return first if first in ("view", "history") else "other"


def locked(status: int) -> HttpReply:
    """The answer to every request while a proxy in front of the server refuses them all."""
    if status == 200:
        return HttpReply(200, _LOGIN, "text/html")
    return HttpReply(status, f"{status}: you may not".encode(), "text/plain")


def replacement(fault: Fault, reply: HttpReply, target: str = "") -> HttpReply:
    """The answer that is sent in place of `reply` to a request for this path and query."""
    if fault.do == "status":
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        text = f"{fault.status}: no answer from upstream".encode()
        return HttpReply(fault.status, text, "text/plain", headers, reply.prompt_id)
    if fault.do == "redirect":
        status = fault.status if 300 <= fault.status < 400 else 302
        return HttpReply(status, b"", "", {"Location": fault.to + target}, reply.prompt_id)
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
    """The mishap of an execution: that of the first fault which has one."""
    return next((found for fault in faults if (found := _mishap(fault)) is not None), None)


def _mishap(fault: Fault) -> Mishap | None:
    match fault.do:
        case "fail":
            return Mishap("fail", fault.exception, fault.message, fault.node)
        case "oom":
            message = "CUDA out of memory. Tried to allocate 2.00 GiB. (rehearsed)"
            return Mishap("fail", "torch.OutOfMemoryError", message, fault.node)
        case "black" | "flat" | "noise" | "wrong":
            return Mishap("appearance", appearance=fault.do)
        case "blank":
            return Mishap("blank")
        case "blocked":
            return Mishap("blocked", message=fault.message)
        case "interrupt":
            return Mishap("interrupt", node=fault.node)
        case "zombie" if fault.face == "running":
            return Mishap("die")
    return None
