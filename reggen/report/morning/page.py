"""The morning report as a page: HTML with its pictures inside, and the contact sheet beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from reggen.dataset.storage import storage_errors
from reggen.files import write_whole
from reggen.prepare.prepared_job import PreparedJob
from reggen.report.lines import format_duration
from reggen.report.morning.facts import MorningFacts, read_facts
from reggen.report.morning.next_steps import NextSteps
from reggen.wording import plural

REPORT, SHEET = "report.html", "contact-sheet.jpg"


def write_morning_report(
    prepared_jobs: Sequence[PreparedJob], title: str, steps: NextSteps, to: Path | None = None
) -> list[Path]:
    """Write a report for each class, or one of all to ``to``; the files that were written.

    Raises LedgerDamaged and StorageError.
    """
    written: list[Path] = []
    facts = [read_facts(prepared) for prepared in prepared_jobs]
    for prepared, one in zip(prepared_jobs, facts, strict=True):
        if to is None and one.pictures:
            written.append(_write(prepared.dataset.state / SHEET, one.sheet()))
        if to is None:
            written.append(_write(prepared.dataset.state / REPORT, render([one], title, steps).encode()))
    if to is not None:
        written.append(_write(to, render(facts, title, steps).encode()))
    return written


def _write(file: Path, data: bytes) -> Path:
    with storage_errors("writing", file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, data)
    return file


def render(facts: Sequence[MorningFacts], title: str, steps: NextSteps) -> str:
    """The page of some classes as HTML. Every text in it is escaped."""
    environment = Environment(
        loader=PackageLoader("reggen.report.morning"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": _data_uri, "clock": _clock, "span": _span}
    page = environment.get_template("report.html")
    return page.render(classes=[(one, verdict(one), next_step(one, steps)) for one in facts], job_file=title)


def verdict(facts: MorningFacts) -> str:
    """The state of the dataset in a sentence."""
    status = facts.status
    if status.filled_by:
        return f"A run is filling it: {status.done:,} of {plural(status.wanted, 'image')} so far."
    if not status.missing:
        return f"Complete: {plural(status.wanted, 'image')}."
    why = f", {plural(len(status.given_up), 'slot')} given up" if status.given_up else ""
    return f"Incomplete: {status.done:,} of {plural(status.wanted, 'image')}{why}."


def next_step(facts: MorningFacts, steps: NextSteps) -> str:
    """The next command, with what it does."""
    if facts.status.filled_by:
        return "Look at the pictures; reject what should not stay once the run has ended."
    if facts.status.missing:
        return f"{steps.run}   (makes only what is missing)"
    return f"{steps.doctor}   (the set as the trainer will read it)"


def _data_uri(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"


def _clock(at: datetime | None) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M") if at else ""


def _span(time: timedelta) -> str:
    return format_duration(time.total_seconds())
