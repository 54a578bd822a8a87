"""Pauses and limits of a run, in seconds. The defaults are for a night; tests hand in shorter ones."""

from __future__ import annotations

from dataclasses import dataclass, field

from reggen.backoff import Backoff
from reggen.comfy.timings import Timings
from reggen.engine.threads import LIMIT
from reggen.job.models import Limits
from reggen.launch.settings import LaunchTimings
from reggen.scheduler.circuit_breaker import RESTS
from reggen.scheduler.retry import PAUSES


@dataclass(frozen=True, slots=True)
class EngineTimings:
    """Pauses and limits of a run, in seconds.

    ``session`` has those of the conversation with one server, ``launch`` those of a ComfyUI of our own.
    """

    session: Timings = field(default_factory=Timings)
    launch: LaunchTimings = field(default_factory=LaunchTimings)
    first_server: Backoff = Backoff(2.0, 15.0)  # between looks for a server, with --wait
    room: Backoff = Backoff(5.0, 300.0)  # between looks for room on a full disk
    retry: Backoff = PAUSES  # between the tries of one sample
    rest: Backoff = RESTS  # of a server that fails
    download: Backoff = Backoff(0.25, 15.0)  # between tries to download one image
    glance: float = 5.0  # between looks at the memory and the worker of a ComfyUI that this run started
    frozen: float = 120.0  # without an answer, after which a ComfyUI of our own is restarted
    relaunch: float = 600.0  # at most, until a ComfyUI that could not be restarted is tried again
    scan_silence: float = 1.0  # of a scan of files, before its progress is told
    scan_interval: float = 0.25  # between two reports of its progress
    leaving: float = LIMIT  # that leaving waits for a thread
    sized_at_start: int = 20_000  # images whose sizes are compared before the start: a tenth of a second
    written_together: int = 64  # images whose names and rows are flushed at a time

    @classmethod
    def of(cls, limits: Limits) -> EngineTimings:
        """The timings of a job, whose limits decide how long a session waits."""
        return cls(session=Timings(silence=limits.silence, stall=limits.stall, gap=limits.gap))
