"""The end of a run: the closing summary for people, and report.json for programs."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from reggen.dataset.storage import storage_errors
from reggen.engine.summary import EmptySlot, Summary
from reggen.errors import STOPPED
from reggen.files import write_whole
from reggen.progress import ServerView
from reggen.report.lines import format_duration
from reggen.report.shell import shell_word
from reggen.wording import first_few, plural

_SHOWN = 10  # names, reasons or ranges that are listed


def format_closing(summary: Summary, *, rehearsal: bool = False, then: str = "") -> str:
    """The closing summary, in lines; the last says what to do next, or is ``then`` where the run itself goes on."""
    last = then if then and not summary.missing else _next_step(summary, rehearsal=rehearsal)
    return "\n".join([*_lines(summary), last])


def _lines(summary: Summary) -> Iterator[str]:
    done = summary.total - summary.missing
    head = "Complete" if not summary.missing else "Stopped" if summary.exit_code == STOPPED else "Incomplete"
    yield f"{head}: {done} of {plural(summary.total, 'image')} in {summary.dataset.absolute()}"
    yield from _made(summary)
    yield from _reconciled(summary)
    yield from _notes(summary)
    yield from _given_up(summary.given_up)
    if summary.missing and (why := summary.error or summary.stopped):
        yield f"  ended early  {why}"


def _made(summary: Summary) -> Iterator[str]:
    if summary.made:
        each = summary.seconds / summary.made
        seconds = format_duration(summary.seconds)
        yield f"  made now     {summary.made} in {seconds}, {each:.2f} s per image{_busy(summary)}"
    elif not summary.missing:
        yield "  made now     none: all images were present"
    if len(summary.servers) > 1 or any(view.switches for view in summary.servers.values()):
        yield from (f"  {name:<12} {_server(view)}" for name, view in summary.servers.items())


def _busy(summary: Summary) -> str:
    busy = sum(view.busy for view in summary.servers.values())
    if not busy:
        return ""
    share = 100 * busy / (summary.seconds * max(1, len(summary.servers)))
    return f"; the servers were busy {min(share, 100):.0f} % of the time"


def _server(view: ServerView) -> str:
    text = f"{view.made} made, {plural(view.failures, 'failure')}"
    text += f", {plural(view.switches, 'checkpoint switch', 'checkpoint switches')}" if view.switches else ""
    return f"{text}; {view.why}" if view.why else text


def _reconciled(summary: Summary) -> Iterator[str]:
    """Lines on the differences between the folder and the ledger that the run found at its start."""
    found = summary.reconciled
    for label, names, what in (
        ("adopted", found.adopted, "found in the folder, checked and kept"),
        ("refilled", found.deleted, "deleted since the last run, made again"),
        ("set aside", found.set_aside, "unusable, moved to .reggen"),
        ("set aside", found.displaced, "in the place of an image or its caption, moved to .reggen"),
    ):
        if names:
            yield f"  {label:<12} {first_few(names, _SHOWN)} ({what})"
    if found.ledger:
        yield f"  ledger       was damaged; it is kept as {found.ledger} in .reggen, and the images were adopted again"


def _notes(summary: Summary) -> Iterator[str]:
    if summary.other_recipes:
        count = sum(map(len, summary.other_recipes))
        others = f"{plural(count, 'image')} made earlier with other settings {'was' if count == 1 else 'were'} kept"
        yield f"  note         {others}: {_numbers(summary.other_recipes)}"
        yield "  note         to make these again too, give their numbers to `python -m reggen redo`"
    if summary.images_beyond:
        others = plural(summary.images_beyond, "image")
        yield f"  note         the folder has {others} beyond the count; a trainer reads these too"
    if summary.foreign_images:
        names = first_few(summary.foreign_images, _SHOWN)
        yield f"  note         {names} (in the folder, but not of this set; a trainer reads these too)"


def _given_up(given_up: Iterable[EmptySlot]) -> Iterator[str]:
    """A line for each reason, since images given up for one reason need one fix."""
    names = defaultdict[str, list[str]](list)
    for slot in given_up:
        names[slot.reason].append(slot.name)
    for reason, group in list(names.items())[:_SHOWN]:
        yield f"  given up     {first_few(group, _SHOWN)}: {reason}"
    if more := sum(map(len, list(names.values())[_SHOWN:])):
        yield f"  given up     {more:,} more; report.json names them"


def _numbers(slots: Sequence[range]) -> str:
    """Slots by the numbers in their names, as `redo` takes them: "1 5-7"."""
    shown = [f"{run.start + 1}-{run.stop}" if len(run) > 1 else f"{run.stop}" for run in slots[:_SHOWN]]
    more = sum(map(len, slots[_SHOWN:]))
    return " ".join(shown) + (f" and {more:,} more" if more else "")


def _next_step(summary: Summary, *, rehearsal: bool) -> str:
    windows = os.name == "nt"
    if rehearsal and not summary.missing:
        command = f"python -m reggen run {shell_word(summary.job_file, windows=windows)}"
        return f"This was a rehearsal: the pictures are marked, none is real. Next: {command}"
    if not summary.missing:
        captions = f" --caption_extension {summary.captions}" if summary.captions else ""
        root = shell_word(str(summary.dataset.parent.absolute()), windows=windows)
        return f"Next: train with --reg_data_dir {root}{captions}"
    if summary.exit_code == STOPPED or not (summary.error or summary.given_up):
        return "Next: run the same command; it continues where this run stopped"
    return "Next: fix the reasons above and run the same command; it makes only the missing images"


def report_data(summary: Summary) -> dict[str, Any]:
    """The content of report.json. Counts are of images, times in seconds."""
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
        "adopted": summary.reconciled.adopted,
        "refilled": summary.reconciled.deleted,
        "set_aside": summary.reconciled.set_aside,
        "files_set_aside": summary.reconciled.displaced,
        "ledger_set_aside": summary.reconciled.ledger or None,
        "values": dict(summary.choices),
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
    text = json.dumps(report_data(summary), indent=2, ensure_ascii=False) + "\n"
    with storage_errors("writing", file):
        write_whole(file, text.encode("utf-8", "backslashreplace"))  # a file name may have bytes that are not text
