"""The end of a run: the words for the person who comes back, and report.json for programs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from reggen.dataset.storage import storage_errors
from reggen.engine.summary import EmptySlot, Summary
from reggen.errors import STOPPED
from reggen.progress import ServerView
from reggen.report.lines import span

_SHOWN = 10  # names listed before the rest is only counted


def closing(summary: Summary, *, rehearsal: bool = False, then: str = "") -> str:
    """The closing summary, several lines, with what to do next as the last; ``then`` is what the run itself does."""
    last = then if then and not summary.missing else _next(summary, rehearsal=rehearsal)
    return "\n".join([*_lines(summary), last])


def _lines(summary: Summary) -> Iterator[str]:
    done = summary.total - summary.missing
    head = "Complete" if not summary.missing else "Stopped" if summary.exit_code == STOPPED else "Incomplete"
    yield f"{head}: {done} of {summary.total} images in {summary.dataset.absolute()}"
    yield from _made(summary)
    found = summary.resumed
    yield from _named("adopted", "lay there already; checked, and kept", found.adopted)
    yield from _named("refilled", "had been deleted, so another was made", found.deleted)
    yield from _named("set aside", "moved to .reggen: no good images", found.set_aside)
    yield from _named("set aside", "lay where an image or its caption belongs; moved to .reggen", found.captions)
    if found.ledger:
        yield f"  ledger       was damaged; it is kept as {found.ledger} in .reggen, and the images were adopted again"
    if summary.other_recipes:
        count, numbers = sum(map(len, summary.other_recipes)), _numbers(summary.other_recipes)
        yield f"  note         {count:,} images were made earlier with other settings, and were kept: {numbers}"
        yield "  note         to have these made again too, give `python -m reggen redo` their numbers"
    if summary.beyond:
        yield f"  note         {summary.beyond} images beyond the count lie in the folder; a trainer reads them too"
    yield from _named("note", "in the folder, but not of this set; a trainer reads them too", summary.strangers)
    yield from _given_up(summary.given_up)
    if summary.missing and (why := summary.error or summary.stopped):
        yield f"  ended early  {why}"


def _given_up(given_up: Iterable[EmptySlot]) -> Iterator[str]:
    """A line for each reason: what has one cause is one thing to be mended."""
    names = defaultdict[str, list[str]](list)
    for given in given_up:
        names[given.reason].append(given.name)
    for reason, those in list(names.items())[:_SHOWN]:
        yield f"  given up     {_listed(those)}: {reason}"
    if more := sum(map(len, list(names.values())[_SHOWN:])):
        yield f"  given up     {more:,} more; report.json names them"


def _numbers(slots: Sequence[range]) -> str:
    """Slots by the numbers in their names, as `redo` takes them."""
    shown = [f"{run.start + 1}-{run.stop}" if len(run) > 1 else f"{run.stop}" for run in slots[:_SHOWN]]
    more = f" and {sum(map(len, slots[_SHOWN:])):,} more" if len(slots) > _SHOWN else ""
    return " ".join(shown) + more


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _made(summary: Summary) -> Iterator[str]:
    if summary.made:
        each = summary.seconds / summary.made
        yield f"  made now     {summary.made} in {span(summary.seconds)}, {each:.2f} s an image{_busy(summary)}"
    elif not summary.missing:
        yield "  made now     none: everything was there"
    if len(summary.servers) > 1 or any(view.switches for view in summary.servers.values()):
        for name, view in summary.servers.items():
            yield f"  {name:<12} {view.made} made, {view.failures} failures{_switches(view)}" + (
                f"; {view.why}" if view.why else ""
            )


def _switches(view: ServerView) -> str:
    return f", {view.switches} checkpoint switches" if view.switches else ""


def _busy(summary: Summary) -> str:
    busy = sum(view.busy for view in summary.servers.values())
    if not busy:
        return ""
    share = 100 * busy / (summary.seconds * max(1, len(summary.servers)))
    return f"; the servers were painting {min(share, 100):.0f} % of the time"


def _named(label: str, what: str, names: Sequence[str]) -> Iterator[str]:
    if names:
        yield f"  {label:<12} {_listed(names)} ({what})"


def _next(summary: Summary, *, rehearsal: bool) -> str:
    if rehearsal and not summary.missing:
        return f"This was a rehearsal: marked pictures, no real ones. Next: python -m reggen run {summary.job_file}"
    if not summary.missing:
        read = f" --caption_extension {summary.captions}" if summary.captions else ""
        return f"Next: train with --reg_data_dir {summary.dataset.parent.absolute()}{read}"
    if summary.exit_code == STOPPED or not (summary.error or summary.given_up):
        return "Next: the same command goes on where this one stopped"
    return "Next: mend what is named above, then the same command makes only what is missing"


def report(summary: Summary) -> dict[str, Any]:
    """The same for programs. Counts are of images, times in seconds."""
    return {
        "format": 1,
        "job": summary.job_file,
        "dataset": str(summary.dataset),
        "started": summary.started,
        "seconds": round(summary.seconds, 3),
        "exit_code": summary.exit_code,
        "wanted": summary.total,
        "there_before": summary.before,
        "made": summary.made,
        "kept": summary.total - summary.missing,
        "missing": summary.missing,
        "given_up": {given.name: given.reason for given in summary.given_up},
        "ended_early": str(summary.error) if summary.error else summary.stopped or None,
        "seconds_per_image": round(summary.seconds / summary.made, 3) if summary.made else None,
        "adopted": summary.resumed.adopted,
        "refilled": summary.resumed.deleted,
        "set_aside": summary.resumed.set_aside,
        "files_set_aside": summary.resumed.captions,
        "ledger_set_aside": summary.resumed.ledger or None,
        "values": dict(summary.values),
        "other_settings": sum(map(len, summary.other_recipes)),
        "servers": {
            name: {
                "made": view.made,
                "failures": view.failures,
                "checkpoint_switches": view.switches,
                "busy_seconds": round(view.busy, 3),
                "busy_seconds_per_image": round(view.busy / view.made, 3) if view.made else None,
                "comfyui": summary.versions.get(name),
            }
            for name, view in summary.servers.items()
        },
    }


def write_report(summary: Summary, file: Path) -> None:
    """Write report.json whole or not at all. Raises StorageError."""
    part = file.with_suffix(".part")
    with storage_errors("writing", file):
        text = json.dumps(report(summary), indent=2, ensure_ascii=False) + "\n"
        part.write_text(text, encoding="utf-8", errors="backslashreplace")  # a file name may be no text
        part.replace(file)
