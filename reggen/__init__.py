"""reggen: regularization images for LoRA and DreamBooth, made overnight on ComfyUI servers.

    import reggen

    job = reggen.load("configs/spyke.toml")
    print(reggen.plan(job))
    summary = reggen.run_sync(job)

Names are imported when they are first used, so that importing reggen loads nothing else. Any Python reads this file
(see reggen.__main__), so there is nothing here that Python 2 cannot parse.
"""

__version__ = "0.1.0"

__all__ = [
    "CaptionChanges",
    "CheckReport",
    "ClassFinished",
    "ClassStarted",
    "DatasetLocked",
    "DatasetStatus",
    "DoctorReport",
    "Event",
    "Examination",
    "ImageSaved",
    "Job",
    "JobError",
    "JobPlan",
    "JobRun",
    "JobStatus",
    "JobSummary",
    "NoUsableServer",
    "Note",
    "NoticesTried",
    "Problem",
    "Progress",
    "PromptLeft",
    "PromptPosted",
    "PromptsTakenOver",
    "ReggenError",
    "RejectResult",
    "RunPaused",
    "RunStarted",
    "RunStopping",
    "Sample",
    "Scanning",
    "ServerChanged",
    "ServerCheck",
    "ServerModels",
    "ServersAwaited",
    "SlotGivenUp",
    "SlotsReopened",
    "StorageError",
    "Summary",
    "TrainerSettings",
    "Trouble",
    "WorkflowReading",
    "__version__",
    "check",
    "check_sync",
    "doctor",
    "load",
    "models",
    "morning_report",
    "notify",
    "plan",
    "purge",
    "read_workflow",
    "recaption",
    "reject",
    "reject_outdated",
    "run",
    "run_sync",
    "schema",
    "status",
    "trainer_settings",
]

TYPE_CHECKING = False  # type checkers take it for true, and read the imports
if TYPE_CHECKING:
    from reggen.api.checking import CheckReport, check, check_sync
    from reggen.api.doctor import Examination, doctor
    from reggen.api.events import ClassFinished, ClassStarted, Event, Note
    from reggen.api.jobs import load, schema
    from reggen.api.judging import purge, recaption, reject, reject_outdated
    from reggen.api.models import ServerModels, models
    from reggen.api.morning import morning_report
    from reggen.api.notices import NoticesTried, notify
    from reggen.api.planning import JobPlan, plan
    from reggen.api.running import JobRun, run, run_sync
    from reggen.api.status import JobStatus, status
    from reggen.api.summary import JobSummary
    from reggen.api.trainer import trainer_settings
    from reggen.api.workflows import WorkflowReading, read_workflow
    from reggen.dataset.captioning import CaptionChanges
    from reggen.dataset.reject import RejectResult
    from reggen.diagnosis.model import DoctorReport
    from reggen.engine.preflight import ServerCheck
    from reggen.engine.summary import Summary
    from reggen.errors import DatasetLocked, JobError, NoUsableServer, Problem, ReggenError, StorageError
    from reggen.job.models import Job
    from reggen.planning.plan import Sample
    from reggen.progress import (
        ImageSaved,
        Progress,
        PromptLeft,
        PromptPosted,
        PromptsTakenOver,
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
    from reggen.report.status import DatasetStatus
    from reggen.report.trainers.settings import TrainerSettings
else:
    _HOMES = {
        "reggen.api.checking": ("CheckReport", "check", "check_sync"),
        "reggen.api.doctor": ("Examination", "doctor"),
        "reggen.api.events": ("ClassFinished", "ClassStarted", "Event", "Note"),
        "reggen.api.jobs": ("load", "schema"),
        "reggen.api.judging": ("purge", "recaption", "reject", "reject_outdated"),
        "reggen.api.morning": ("morning_report",),
        "reggen.api.planning": ("JobPlan", "plan"),
        "reggen.api.running": ("JobRun", "run", "run_sync"),
        "reggen.api.status": ("JobStatus", "status"),
        "reggen.api.summary": ("JobSummary",),
        "reggen.api.trainer": ("trainer_settings",),
        "reggen.api.models": ("ServerModels", "models"),
        "reggen.api.notices": ("NoticesTried", "notify"),
        "reggen.api.workflows": ("WorkflowReading", "read_workflow"),
        "reggen.dataset.captioning": ("CaptionChanges",),
        "reggen.dataset.reject": ("RejectResult",),
        "reggen.diagnosis.model": ("DoctorReport",),
        "reggen.engine.preflight": ("ServerCheck",),
        "reggen.engine.summary": ("Summary",),
        "reggen.errors": (
            "DatasetLocked",
            "JobError",
            "NoUsableServer",
            "Problem",
            "ReggenError",
            "StorageError",
        ),
        "reggen.job.models": ("Job",),
        "reggen.planning.plan": ("Sample",),
        "reggen.progress": (
            "ImageSaved",
            "Progress",
            "PromptLeft",
            "PromptPosted",
            "PromptsTakenOver",
            "RunPaused",
            "RunStarted",
            "RunStopping",
            "Scanning",
            "ServerChanged",
            "ServersAwaited",
            "SlotGivenUp",
            "SlotsReopened",
            "Trouble",
        ),
        "reggen.report.status": ("DatasetStatus",),
        "reggen.report.trainers.settings": ("TrainerSettings",),
    }

    def __getattr__(name):
        """Import a public name on its first use."""
        import importlib  # noqa: PLC0415 - as everything else

        for module, names in _HOMES.items():
            if name in names:
                globals()[name] = value = getattr(importlib.import_module(module), name)
                return value
        raise AttributeError("module 'reggen' has no attribute %r" % name)

    def __dir__():
        return sorted(set(globals()) | set(__all__))
