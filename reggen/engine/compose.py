"""Wiring one run: its threads, sessions, scheduler, writer and attempts, put together and closed again in order."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from reggen import progress
from reggen.backoff import full_jitter
from reggen.comfy.client import Client
from reggen.comfy.session import ServerSession
from reggen.dataset.download import Downloads
from reggen.dataset.ledger import Ledger
from reggen.dataset.reconcile import changed_slots, missing_requests
from reggen.dataset.rows import now_utc
from reggen.engine.attempt import AttemptRunner
from reggen.engine.availability import Availability
from reggen.engine.control import Observers
from reggen.engine.disk_room import DiskRoom
from reggen.engine.opening import OpenDataset
from reggen.engine.outcomes import OutcomeHandler
from reggen.engine.read_ahead import ReadAhead
from reggen.engine.run import Run
from reggen.engine.run_state import RunState
from reggen.engine.server_faults import ServerFaults
from reggen.engine.supervisor import Supervisor
from reggen.engine.takeover import Takeover
from reggen.engine.threads import Threads
from reggen.engine.timings import EngineTimings
from reggen.engine.writer import DatasetWriter
from reggen.launch.comfy_process import ComfyProcess
from reggen.planning.plan import PromptRequest, Sample
from reggen.prepare.prepared_job import PreparedJob
from reggen.scheduler.fleet import Fleet
from reggen.scheduler.health import FleetHealth
from reggen.scheduler.order_queue import FAR, NEAR
from reggen.scheduler.stop_rules import StopRules
from reggen.workflow.template import Template

_SPARE = 8 << 20  # bytes that the ledger and the log may need beside the images
_MOST_DECODERS = 8
_FILE_THREADS = 2


@dataclass(frozen=True, slots=True)
class UsableServers:
    """The servers of a run: those that can run the job, or are away and may be able to.

    ``ready`` names those that passed the preflight; ``versions`` has their ComfyUI's, ``launched`` the processes that
    this run started, ``templates`` those with the file names of one server, all by server name.
    """

    clients: Sequence[Client]
    ready: frozenset[str]
    versions: Mapping[str, str | None]
    launched: Mapping[str, ComfyProcess]
    templates: Mapping[str, Template]


@dataclass(frozen=True, slots=True)
class Composition:
    """The parts that one run is put together from."""

    prepared: PreparedJob
    job_file: str
    dataset: OpenDataset
    servers: UsableServers
    stop_rules: StopRules
    timings: EngineTimings
    observers: Observers
    run_id: uuid.UUID = field(default_factory=uuid.uuid4)

    @asynccontextmanager
    async def composed(self) -> AsyncIterator[Run]:
        """Note that a run begins, and put it together. Leaving the block closes all parts, in order and in time."""
        prepared, dataset, leaving = self.prepared, self.dataset, self.timings.leaving
        async with AsyncExitStack() as stack:
            ledger, earlier = await dataset.thread.do(self._begin)
            reader = Threads(1, "reggen-reader", dataset.folder.state, limit=leaving)
            stack.push_async_callback(reader.close, ledger.close)
            takeover = Takeover(prepared.plan, ledger, reader, earlier, prepared.template)
            window = FAR if "checkpoint" in prepared.template.axes else NEAR
            requests = ReadAhead(missing_requests(ledger, prepared.plan), reader, window)
            writer = self._writer()
            stack.push_async_callback(writer.close)
            downloads = self._downloads(stack)
            fleet = self._fleet(requests, len(prepared.plan) - await dataset.count_done())
            sessions = self._sessions(takeover if earlier else None)
            run = self._run(
                fleet, sessions, self._runner(writer, downloads), takeover, partial(self._find_undone, reader)
            )
            requests.on_ready = run.state.wake
            for session in sessions:
                session.on_change = run.session_changed
            yield run

    async def note_end(self, outcome: str) -> None:
        """Note in the ledger that this run has ended, and how. Raises StorageError."""
        ledger = self.dataset.ledger
        await self.dataset.thread.do(partial(ledger.runs.end, str(self.run_id), now_utc(), outcome))

    def _begin(self) -> tuple[Ledger, list[uuid.UUID]]:
        """Note that a run begins. Blocking. A second connection to the ledger, to read, and the ids of earlier runs."""
        reader = Ledger.read(self.dataset.folder.state)
        assert reader is not None, "it was opened for writing"
        earlier = [uuid.UUID(run) for run in reader.runs.newest()]
        self.dataset.ledger.runs.begin(str(self.run_id), now_utc())
        return reader, earlier

    async def _find_undone(self, reader: Threads) -> list[Sample]:
        """Find images that were deleted or damaged meanwhile, or could not be looked at before the start."""
        plan, dataset = self.prepared.plan, self.dataset
        look = partial(changed_slots, dataset.folder, len(plan), reader.leaving.is_set)
        changed = await reader.do(look)
        undone = await dataset.thread.do(partial(dataset.reconciliation.by_size, plan, changed)) if changed else []
        return [plan.sample(index, take) for index, take in undone]

    def _writer(self) -> DatasetWriter:
        dataset = self.dataset
        captions = self.prepared.captions.extension
        writer = DatasetWriter(
            dataset.folder, dataset.ledger, captions, dataset.thread, dataset.duplicates, moved=self._moved_aside
        )
        writer.together = self.timings.written_together
        return writer

    def _moved_aside(self, name: str) -> None:
        self.dataset.reconciliation.found.displaced.append(name)
        rejected = self.dataset.folder.rejected
        self.observers.note(f"{name} lay where an image's own file belongs; it is kept in {rejected}")

    def _run(
        self,
        fleet: Fleet,
        sessions: Sequence[ServerSession],
        runner: AttemptRunner,
        takeover: Takeover,
        find_undone: Callable[[], Awaitable[list[Sample]]],
    ) -> Run:
        tell, timings = self.observers.tell, self.timings
        state, by_name = RunState(fleet, tell), {session.name: session for session in sessions}
        supervisors = self._supervisors(state, fleet, by_name)

        def restart(name: str, why: str) -> None:
            if name in supervisors:  # the others are not ours to end
                supervisors[name].ask(why)

        faults = ServerFaults(fleet, self.job_file, tell, restart, sick_rest=timings.session.sick)
        disk = DiskRoom(
            fleet, runner.folder.free_bytes, runner.downloads.disk, self._room_needed(), tell, pauses=timings.room
        )
        return Run(
            state=state,
            fleet=fleet,
            sessions=by_name,
            supervisors=supervisors.values(),
            runner=runner,
            outcomes=self._outcomes(state, fleet, runner, faults, disk),
            faults=faults,
            availability=Availability(fleet, by_name, faults, self.prepared.limits, tell),
            disk=disk,
            stop_rules=self.stop_rules,
            takeover=takeover,
            not_greeted={*self.servers.ready} & {*by_name},
            find_undone=find_undone,
            tell=tell,
        )

    def _outcomes(
        self, state: RunState, fleet: Fleet, runner: AttemptRunner, faults: ServerFaults, disk: DiskRoom
    ) -> OutcomeHandler:
        prepared = self.prepared
        return OutcomeHandler(
            plan=prepared.plan,
            runner=runner,
            fleet=fleet,
            faults=faults,
            disk=disk,
            limits=prepared.limits,
            stop_rules=self.stop_rules,
            free_every={server.name: server.free_every for server in prepared.servers if server.free_every},
            tell=self.observers.tell,
            stop=state.stop,
            pauses=self.timings.retry,
        )

    def _supervisors(
        self, state: RunState, fleet: Fleet, sessions: Mapping[str, ServerSession]
    ) -> dict[str, Supervisor]:
        """A supervisor for each process that this run started and whose server takes part, by server name."""

        def tell(text: str) -> None:
            self.observers.tell(progress.Trouble(time.monotonic(), "", text))
            state.wake()

        return {
            name: Supervisor(launched, sessions[name], fleet.loads[name], tell, wake=state.wake, timings=self.timings)
            for name, launched in self.servers.launched.items()
            if name in sessions
        }

    def _fleet(self, requests: ReadAhead[PromptRequest], images: int) -> Fleet:
        depths = self._depths()
        health = FleetHealth(
            depths,
            full_jitter,
            time.monotonic(),
            patience=self.prepared.limits.away,
            one_text=self.prepared.plan.has_one_text,
            rests=self.timings.rest,
        )
        return Fleet(depths, requests, health, full_jitter, images=images)

    def _depths(self) -> dict[str, int | None]:
        names = {client.name for client in self.servers.clients}
        return {server.name: server.depth for server in self.prepared.servers if server.name in names}

    def _room_needed(self) -> int:
        """Bytes that must be free for a run to go on: for all images in flight, and the ledger and the log."""
        return self.prepared.bytes_needed(sum(depth or 2 for depth in self._depths().values())) + _SPARE

    def _sessions(self, takeover: Takeover | None) -> list[ServerSession]:
        keeps = {server.name: server.keep_history for server in self.prepared.servers}
        ours, timings = takeover.recognize if takeover else None, self.timings.session
        return [
            ServerSession(client, timings=timings, recognize=ours, keeps_history=keeps[client.name])
            for client in self.servers.clients
        ]

    def _downloads(self, stack: AsyncExitStack) -> Downloads:
        """The downloads of the run, with threads that end with the stack."""
        parts, leaving = self.dataset.folder.parts, self.timings.leaving
        disk = Threads(_FILE_THREADS, "reggen-download", parts, limit=leaving)
        stack.push_async_callback(disk.close, cancel=True)
        decoders = Threads(_decoders(), "reggen-check", parts, limit=leaving)
        stack.push_async_callback(decoders.close, cancel=True)
        return Downloads(parts, self.prepared.limits.megabytes << 20, disk, decoders, limit=leaving)

    def _runner(self, writer: DatasetWriter, downloads: Downloads) -> AttemptRunner:
        prepared = self.prepared
        return AttemptRunner(
            run_id=self.run_id,
            template=prepared.template,
            folder=self.dataset.folder,
            ledger=self.dataset.ledger,
            writer=writer,
            downloads=downloads,
            check_settings=prepared.check_settings,
            guard=prepared.guard,
            recipe=prepared.recipe,
            versions=self.servers.versions,
            pauses=self.timings.download,
            templates=self.servers.templates,
        )


def _decoders() -> int:
    """The number of threads that decode and check: a core is left to the event loop, and there are eight at most.

    With more of them than cores the loop waited so long for its turn that servers waited for their next prompt.
    """
    return max(1, min(_MOST_DECODERS, (os.cpu_count() or 1) - 1))
