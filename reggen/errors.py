"""Everything that can go wrong, as one tree.

    ReggenError
    ├─ JobError                  the job cannot be run as written      exit 2
    │   └─ WorkflowError         the workflow cannot be used
    ├─ ServerError               this server, now; another may do      (retried)
    │   ├─ Unreachable           no answer came
    │   │   └─ Untrusted         its certificate is not trusted: nothing was sent
    │   ├─ Refused               it answered, with a status that is no success
    │   ├─ Nonsense              it answered, with something that cannot be read
    │   └─ Full                  its own disk is full
    ├─ SampleError               these images, whatever the server     (retried, then given up)
    │   ├─ NotDownloaded         they were made, and could not be had
    │   ├─ Forbidden             a forbidden word stands in the prompt
    │   ├─ Rejected              the graph did not pass the server's validation
    │   ├─ Failed                a node raised
    │   ├─ NoOutput              success without the images asked for
    │   ├─ BadImage              black, flat, noise, torn, wrong size
    │   │   └─ Duplicate         it is, or looks like, one that is there
    │   ├─ Interrupted           somebody interrupted it
    │   └─ Lost                  it vanished from the server
    ├─ StorageError              the disk said no                      exit 5
    │   └─ Damaged               the ledger cannot be read as one
    ├─ NoServers                 none can be used                      exit 4
    └─ Busy                      another run holds the dataset         exit 2

Every error keeps its facts in positional fields, so it survives pickling, and its text is a
sentence: what was being done, to what, what happened, what to do about it.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

COMPLETE, INCOMPLETE, BAD_JOB, TIME_UP, NO_SERVER, STORAGE, STOPPED = 0, 1, 2, 3, 4, 5, 130


class ReggenError(Exception):
    """The root of everything reggen raises on purpose. ``exit_code`` is what a run that ends by it returns."""

    exit_code: ClassVar[int] = INCOMPLETE


class Problem(NamedTuple):
    """One fault of a job: the dotted ``key``, what is wrong with it, and a hint (may be empty)."""

    key: str
    problem: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.key}: " if self.key else ""
        return f"{where}{self.problem}" + (f" ({self.hint})" if self.hint else "")


class JobError(ReggenError):
    """The job cannot be run as it is written; nothing was started. Carries every problem at once."""

    exit_code = BAD_JOB

    def __init__(self, file: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(file, problems)
        self.file, self.problems = file, problems

    def __str__(self) -> str:
        count = f"{len(self.problems)} problems" if len(self.problems) > 1 else "one problem"
        return f"{self.file} has {count}:\n" + "\n".join(f"  {problem}" for problem in self.problems)


class WorkflowError(JobError):
    """The workflow named in the job cannot be used: not API format, or its bindings cannot be found."""


_CREDENTIALS = """give this server valid credentials in [[servers]]: headers = { Authorization = "Bearer ${TOKEN}" }"""
_REMEDIES = {
    401: _CREDENTIALS,
    403: f"{_CREDENTIALS}, or have what is in front of it let this request through",
    404: "is this the address of ComfyUI, with the path it has behind a proxy? See url in [[servers]]",
    405: "have the proxy in front of it let this request through",
    407: _CREDENTIALS,
    502: "what is in front of it answers, ComfyUI behind it does not: is it running?",
    504: "what is in front of it answers, ComfyUI behind it does not: is it running?",
    413: "have the proxy in front of it take larger requests (nginx: client_max_body_size 16m;)",
}
"""By HTTP status: what a person can do where the same request is refused again and again."""


class ServerError(ReggenError):
    """One server could not do something now. Retried, elsewhere first; it never counts against a sample."""

    exit_code = NO_SERVER

    def __init__(self, server: str, doing: str, what: str = "it failed") -> None:
        super().__init__(server, doing, what)
        self.server, self.doing, self.what = server, doing, what

    def __str__(self) -> str:
        return f"{self.doing} at {self.server}: {self.what}"

    @property
    def remedy(self) -> str:
        """What a person can do about it; empty when nobody knows."""
        return ""

    @property
    def told(self) -> str:
        """What happened, and what to do about it."""
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


class Unreachable(ServerError):
    """No answer. ``arrived`` says whether the request may have been executed all the same."""

    def __init__(self, server: str, doing: str, what: str, arrived: bool = False) -> None:
        super().__init__(server, doing, what)
        self.args = (server, doing, what, arrived)
        self.arrived = arrived


class Untrusted(Unreachable):
    """Its certificate is not the pinned one, or not trusted. Waiting does not help; nothing was sent."""


class Refused(ServerError):
    """An HTTP status that is no success. ``wait`` is the Retry-After in seconds, when one was named."""

    def __init__(self, server: str, doing: str, status: int, body: str, wait: float = 0.0) -> None:
        super().__init__(server, doing, f"HTTP {status}" + (f": {body}" if body else ""))
        self.args = (server, doing, status, body, wait)
        self.status, self.body, self.wait = status, body, wait

    @property
    def remedy(self) -> str:
        """By the status."""
        return _REMEDIES.get(self.status, "")


class Nonsense(ServerError):
    """The answer cannot be read as what it should be: a short body, a missing field.

    ``page``: it is a web page, so something in front of ComfyUI answers.
    """

    def __init__(self, server: str, doing: str, what: str, page: bool = False) -> None:
        super().__init__(server, doing, what)
        self.args = (server, doing, what, page)
        self.page = page

    @property
    def remedy(self) -> str:
        """A login page wants credentials."""
        return _REMEDIES[401] if self.page else ""


class Full(ServerError):
    """The server's own disk is full: nothing that is sent there can succeed until somebody makes room."""


class SampleError(ReggenError):
    """One try at one or more samples failed, for a reason that lies in the samples and not in the server."""


class Forbidden(SampleError):
    """A forbidden word stands in the prompt of a sample; it is never posted."""

    def __init__(self, name: str, offence: str) -> None:
        super().__init__(name, offence)
        self.name, self.offence = name, offence

    def __str__(self) -> str:
        return f"the prompt of {self.name} has a forbidden word: {self.offence}"


class Rejected(SampleError):
    """The server's validation refused the graph. Deterministic: the same graph is refused again."""

    def __init__(self, server: str, reasons: tuple[str, ...], stale_list: bool = False) -> None:
        super().__init__(server, reasons, stale_list)
        self.server, self.reasons, self.stale_list = server, reasons, stale_list

    def __str__(self) -> str:
        return f"{self.server} refused the prompt: " + "; ".join(self.reasons)


class Failed(SampleError):
    """A node raised while the prompt ran."""

    def __init__(self, server: str, node: str, kind: str, message: str, out_of_memory: bool = False) -> None:
        super().__init__(server, node, kind, message, out_of_memory)
        self.server, self.node, self.kind, self.message = server, node, kind, message
        self.out_of_memory = out_of_memory

    def __str__(self) -> str:
        if self.out_of_memory:
            return f"{self.server} ran out of memory in {self.node}: {self.message}"
        return f"{self.node} raised {self.kind} on {self.server}: {self.message}"


class NoOutput(SampleError):
    """The prompt ended in success without the images it should have made. ``why``: what a node said that blocked it."""

    def __init__(self, server: str, expected: int, got: int, why: str = "") -> None:
        super().__init__(server, expected, got, why)
        self.server, self.expected, self.got, self.why = server, expected, got, why

    def __str__(self) -> str:
        what = f"{self.server} reported success with {self.got} images where {self.expected} were asked for"
        return what + (f"; a node blocked it: {self.why}" if self.why else "")


class NotDownloaded(SampleError):
    """The images were made and lie on the server, which does not hand them out."""

    def __init__(self, server: str, what: str) -> None:
        super().__init__(server, what)
        self.server, self.what = server, what

    def __str__(self) -> str:
        return f"{self.server} made the image and does not hand it out: {self.what}"


class BadImage(SampleError):
    """An image arrived that must not enter the dataset.

    ``torn``: the bytes are no whole image, so the way here may be at fault. Otherwise a new seed is the remedy.
    """

    def __init__(self, name: str, reason: str, torn: bool = False) -> None:
        super().__init__(name, reason, torn)
        self.name, self.reason, self.torn = name, reason, torn

    def __str__(self) -> str:
        return f"the image for {self.name} {self.reason}"


class Duplicate(BadImage):
    """The image is one that the set or the training set has already, or looks like it."""


class Interrupted(SampleError):
    """Somebody interrupted the prompt on the server."""

    def __init__(self, server: str) -> None:
        super().__init__(server)
        self.server = server

    def __str__(self) -> str:
        return f"the prompt was interrupted on {self.server}"


class Lost(SampleError):
    """The prompt is neither queued nor in the history: deleted by a person, or the server restarted.

    ``died``: the server seems to have died with it on board. ``running``: it was being executed just then, which
    nobody can delete.
    """

    def __init__(
        self, server: str, what: str = "restarted, or somebody deleted it", running: bool = False, died: bool = False
    ) -> None:
        super().__init__(server, what, running, died)
        self.server, self.what, self.running, self.died = server, what, running, running or died

    def __str__(self) -> str:
        return f"the prompt vanished from {self.server} ({self.what})"


class StorageError(ReggenError):
    """The local disk refused. Never a sample's failure. ``full``: there is no room, which can change.

    ``remedy`` is what to do about it, where it is known.
    """

    exit_code = STORAGE

    def __init__(self, path: str, doing: str, what: str, full: bool = False, remedy: str = "") -> None:
        super().__init__(path, doing, what, full, remedy)
        self.path, self.doing, self.what, self.full, self.remedy = path, doing, what, full, remedy

    def __str__(self) -> str:
        then = self.remedy or "run the same command again when it is mended"
        return f"{self.doing} {self.path}: {self.what}. Nothing is lost; {then}"


class Damaged(StorageError):
    """The ledger is no ledger, or holds what reggen never wrote. A run sets it aside and adopts the images again."""

    def __init__(self, path: str, doing: str, what: str) -> None:
        super().__init__(path, doing, what)
        self.args = (path, doing, what)

    def __str__(self) -> str:
        return (
            f"{self.doing} {self.path}: it is damaged ({self.what}). The images are not touched: `python -m reggen "
            "run` with the same job sets this file aside, checks and adopts the images, and goes on"
        )


class NoServers(ReggenError):
    """None of the job's servers can be used. ``tried`` pairs each URL with what happened there."""

    exit_code = NO_SERVER

    def __init__(self, tried: tuple[tuple[str, str], ...]) -> None:
        super().__init__(tried)
        self.tried = tried

    def __str__(self) -> str:
        lines = "\n".join(f"  {url}: {what}" for url, what in self.tried)
        return (
            f"no ComfyUI server can be used:\n{lines}\n"
            "Start ComfyUI, name another with --server URL, wait for one with --wait, "
            "or try the job without one: --rehearse"
        )


class Busy(ReggenError):
    """Another run holds the dataset."""

    exit_code = BAD_JOB

    def __init__(self, dataset: str, holder: str) -> None:
        super().__init__(dataset, holder)
        self.dataset, self.holder = dataset, holder

    def __str__(self) -> str:
        return f"{self.dataset} is being filled by another run ({self.holder}). Wait for it, or stop it first"
