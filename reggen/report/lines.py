"""One line for each event, for the log file and for outputs that are not a terminal."""

from __future__ import annotations

from reggen.progress import (
    ImageSaved,
    Progress,
    PromptsTakenOver,
    RunEvent,
    RunPaused,
    RunStarted,
    RunStopping,
    Scanning,
    ServerChanged,
    ServersAwaited,
    SlotGivenUp,
    SlotsReopened,
    Trouble,
)
from reggen.wording import first_few, plural

_MOST_NAMES = 10


def format_event(event: RunEvent, state: Progress) -> str | None:
    """One line for an event, given the state after it; None for events that only the live display shows."""
    text = _event_text(event, state)
    return " ".join(text.split()) if text is not None else None


def _event_text(event: RunEvent, state: Progress) -> str | None:
    match event:
        case Scanning():
            return format_scanning(event)
        case RunStarted():
            present = f", {event.done:,} already present" if event.done else ""
            wanted = plural(event.total, "image")
            return f"{wanted} wanted{present}; servers: {', '.join(event.servers)}"
        case ServerChanged():
            return f"{event.server} is {'ready' if event.up else 'away'}" + (f": {event.why}" if event.why else "")
        case PromptsTakenOver():
            return f"{first_few(event.names, _MOST_NAMES)} taken over from an earlier run on {event.server}"
        case ImageSaved():
            busy = f" in {event.busy:.1f} s" if event.busy is not None else ""
            return f"{event.name} made on {event.server}{busy} ({state.done}/{state.total}{_left(event.at, state)})"
        case Trouble():
            return event.text
        case SlotGivenUp():
            return f"{event.name} is given up: {event.reason}"
        case SlotsReopened():
            return f"{first_few(event.names, _MOST_NAMES)}: deleted or damaged during the run; made again"
        case RunPaused() | ServersAwaited() | RunStopping():
            return _halt_text(event, state)
    return None


def format_scanning(event: Scanning) -> str:
    """A sentence on how many images have been checked."""
    return f"checking the images in the folder: {event.done:,} of {event.total:,}"


def _halt_text(event: RunPaused | ServersAwaited | RunStopping, state: Progress) -> str:
    match event:
        case RunPaused():
            return f"paused: {event.why}" if event.why else "resumed"
        case ServersAwaited():
            if not event.why:
                return "a server can be used again"
            is_known = any(view.why and view.why in event.why for view in state.servers.values())
            return "no server can be used; waiting for one" + ("" if is_known else f" ({event.why})")
        case RunStopping():
            return f"no new prompts: {event.why}"


def _left(at: float, state: Progress) -> str:
    eta = state.eta(at)
    return f", {format_duration(eta)} left" if eta is not None else ""


def format_duration(seconds: float) -> str:
    """A length of time: 8 s, 4 min 10 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if whole >= 10 or seconds == whole else f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
