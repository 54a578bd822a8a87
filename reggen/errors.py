"""Everything that can go wrong, as one tree.

    ReggenError
    ├─ JobError                     the job cannot be run as written             exit 2
    │   └─ WorkflowError            the workflow cannot be used
    ├─ ServerError                  this server, now; another may do             exit 4, retried
    │   ├─ Unreachable              no answer came
    │   │   └─ UntrustedCertificate nothing was sent
    │   ├─ HttpStatusError          an answer with a status other than success
    │   ├─ InvalidResponse          an answer that cannot be read
    │   └─ ServerDiskFull           the server cannot save images
    ├─ SampleError                  these images, whatever the server            retried, then given up
    │   ├─ NotDownloaded            made, but could not be downloaded
    │   ├─ ForbiddenWord            the prompt has a forbidden word
    │   ├─ PromptRejected           the graph did not pass the server's validation
    │   ├─ ExecutionError           a node raised
    │   ├─ MissingOutput            success without the images asked for
    │   ├─ BadImage                 black, flat, noise, torn, wrong size
    │   │   ├─ WrongSizeImage       another size than was asked for
    │   │   └─ DuplicateImage       the same as another image, or looks like it
    │   ├─ PromptInterrupted        somebody interrupted it
    │   └─ PromptLost               neither queued nor in the history
    ├─ StorageError                 the local disk refused                       exit 5
    │   └─ LedgerDamaged            the ledger cannot be read
    ├─ NoUsableServer               none of the job's servers can be used        exit 4
    └─ DatasetLocked                another run is filling the dataset           exit 2

Every error keeps its facts in positional fields, so it survives pickling, and its text is a
sentence: what was being done, to what, what happened, what to do about it.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

COMPLETE, INCOMPLETE, BAD_JOB, TIME_UP, NO_SERVER, STORAGE, STOPPED = 0, 1, 2, 3, 4, 5, 130


class ReggenError(Exception):
    """Root of all errors that reggen raises on purpose. A run that ends by one returns its ``exit_code``."""

    exit_code: ClassVar[int] = INCOMPLETE


class Problem(NamedTuple):
    """One fault of a job: its dotted ``key`` or place, what is wrong, a hint and lines of the file ("" for none)."""

    key: str
    problem: str
    hint: str = ""
    excerpt: str = ""

    def __str__(self) -> str:
        where = f"{self.key}: " if self.key else ""
        lines = "".join(f"\n      {line}" for line in self.excerpt.splitlines())
        return f"{where}{self.problem}" + (f" ({self.hint})" if self.hint else "") + lines


class JobError(ReggenError):
    """The job cannot be run as written; nothing was started. ``problems`` has all of them."""

    exit_code = BAD_JOB

    def __init__(self, file: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(file, problems)
        self.file, self.problems = file, problems

    def __str__(self) -> str:
        count = f"{len(self.problems)} problems" if len(self.problems) > 1 else "one problem"
        return f"{self.file} has {count}:\n" + "\n".join(f"  {problem}" for problem in self.problems)


class WorkflowError(JobError):
    """The job's workflow cannot be used: it is not in API format, or its bindings cannot be found."""


_CREDENTIALS = """give this server valid credentials in [[servers]]: headers = { Authorization = "Bearer ${TOKEN}" }"""
_REMEDIES = {
    401: _CREDENTIALS,
    403: f"{_CREDENTIALS}, or let this request through in the proxy in front of it",
    404: "check url in [[servers]]: is it ComfyUI's address, with the path that it has behind a proxy?",
    405: "let this request through in the proxy in front of it",
    407: _CREDENTIALS,
    502: "the proxy answers, ComfyUI behind it does not: is it running?",
    504: "the proxy answers, ComfyUI behind it does not: is it running?",
    413: "allow larger requests in the proxy in front of it (nginx: client_max_body_size 16m;)",
}
"""Remedies by HTTP status, for a request that is refused again and again."""


class ServerError(ReggenError):
    """One server could not do something now. Retried, elsewhere first; never counts against a sample.

    ``retry_after``: how long the server asked to be left alone, in seconds; 0.0 where it did not.
    """

    exit_code = NO_SERVER
    retry_after = 0.0

    def __init__(self, server: str, doing: str, what: str = "it failed") -> None:
        super().__init__(server, doing, what)
        self.server, self.doing, self.what = server, doing, what

    def __str__(self) -> str:
        return f"{self.doing} at {self.server}: {self.what}"

    @property
    def remedy(self) -> str:
        """Advice for a person; "" where none is known."""
        return ""

    @property
    def with_remedy(self) -> str:
        """The reason and, where one is known, the remedy."""
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


class Unreachable(ServerError):
    """No answer. ``may_have_arrived``: the request may have been executed nevertheless."""

    def __init__(self, server: str, doing: str, what: str, may_have_arrived: bool = False) -> None:
        super().__init__(server, doing, what)
        self.args = (server, doing, what, may_have_arrived)
        self.may_have_arrived = may_have_arrived


class UntrustedCertificate(Unreachable):
    """The certificate is not the pinned one, or not trusted. Waiting does not help; nothing was sent."""


class HttpStatusError(ServerError):
    """An HTTP status other than success. ``retry_after``: the Retry-After header in seconds, 0.0 for none."""

    def __init__(self, server: str, doing: str, status: int, body: str, retry_after: float = 0.0) -> None:
        super().__init__(server, doing, f"HTTP {status}" + (f": {body}" if body else ""))
        self.args = (server, doing, status, body, retry_after)
        self.status, self.body, self.retry_after = status, body, retry_after

    @property
    def remedy(self) -> str:
        """Advice for the status; "" where none is known."""
        return _REMEDIES.get(self.status, "")


class InvalidResponse(ServerError):
    """An answer that cannot be read as expected: a short body, a missing field.

    ``is_web_page``: something in front of ComfyUI answers.
    """

    def __init__(self, server: str, doing: str, what: str, is_web_page: bool = False) -> None:
        super().__init__(server, doing, what)
        self.args = (server, doing, what, is_web_page)
        self.is_web_page = is_web_page

    @property
    def remedy(self) -> str:
        """Credentials, where a web page answers; else ""."""
        return _REMEDIES[401] if self.is_web_page else ""


class ServerDiskFull(ServerError):
    """The server's own disk is full: no prompt can succeed there until somebody makes room."""


class SampleError(ReggenError):
    """One attempt at one or more samples failed, for a reason in the samples and not in the server."""


class ForbiddenWord(SampleError):
    """The prompt of a sample has a forbidden word; it is never posted."""

    def __init__(self, name: str, offence: str) -> None:
        super().__init__(name, offence)
        self.name, self.offence = name, offence

    def __str__(self) -> str:
        return f"the prompt of {self.name} has a forbidden word: {self.offence}"


class PromptRejected(SampleError):
    """The server's validation refused the graph; the same graph will be refused again."""

    def __init__(self, server: str, reasons: tuple[str, ...]) -> None:
        super().__init__(server, reasons)
        self.server, self.reasons = server, reasons

    def __str__(self) -> str:
        return f"{self.server} refused the prompt: " + "; ".join(self.reasons)


class ExecutionError(SampleError):
    """A node raised while the prompt ran."""

    def __init__(self, server: str, node: str, kind: str, message: str, out_of_memory: bool = False) -> None:
        super().__init__(server, node, kind, message, out_of_memory)
        self.server, self.node, self.kind, self.message = server, node, kind, message
        self.out_of_memory = out_of_memory

    def __str__(self) -> str:
        if self.out_of_memory:
            return f"{self.server} ran out of memory in {self.node}: {self.message}"
        return f"{self.node} raised {self.kind} on {self.server}: {self.message}"


class MissingOutput(SampleError):
    """The prompt succeeded with fewer images than asked for. ``why``: the message of a node that blocked the output."""

    def __init__(self, server: str, expected: int, got: int, why: str = "") -> None:
        super().__init__(server, expected, got, why)
        self.server, self.expected, self.got, self.why = server, expected, got, why

    def __str__(self) -> str:
        what = f"{self.server} reported success but made {self.got} of {self.expected} images"
        return what + (f"; a node blocked it: {self.why}" if self.why else "")


class NotDownloaded(SampleError):
    """The images are on the server, but could not be downloaded."""

    def __init__(self, server: str, what: str) -> None:
        super().__init__(server, what)
        self.server, self.what = server, what

    def __str__(self) -> str:
        return f"{self.server} made the image, but it could not be downloaded: {self.what}"


class BadImage(SampleError):
    """An image that must not enter the dataset.

    ``torn``: the bytes are not a whole image, so the download may be at fault. Otherwise another seed is the remedy.
    """

    def __init__(self, name: str, reason: str, torn: bool = False) -> None:
        super().__init__(name, reason, torn)
        self.name, self.reason, self.torn = name, reason, torn

    def __str__(self) -> str:
        return f"the image for {self.name} {self.reason}"


class WrongSizeImage(BadImage):
    """The image has another size than was asked for: no seed changes that."""


class DuplicateImage(BadImage):
    """The image is, or looks like, one of the set or of the training set."""


class PromptInterrupted(SampleError):
    """Somebody interrupted the prompt on the server."""

    def __init__(self, server: str) -> None:
        super().__init__(server)
        self.server = server

    def __str__(self) -> str:
        return f"the prompt was interrupted on {self.server}"


class PromptLost(SampleError):
    """The prompt is neither queued nor in the history: somebody deleted it, or the server restarted.

    ``died``: the server seems to have died while it held the prompt. ``running``: the prompt was being executed
    then; nobody can delete such a prompt, so ``died`` follows.
    """

    def __init__(
        self, server: str, what: str = "restarted, or somebody deleted it", running: bool = False, died: bool = False
    ) -> None:
        super().__init__(server, what, running, died)
        self.server, self.what, self.running, self.died = server, what, running, running or died

    def __str__(self) -> str:
        return f"the prompt vanished from {self.server} ({self.what})"


class StorageError(ReggenError):
    """The local disk refused; never a sample's failure. ``full``: it has no room, which can change.

    ``remedy``: advice for a person, "" where none is known.
    """

    exit_code = STORAGE

    def __init__(self, path: str, doing: str, what: str, full: bool = False, remedy: str = "") -> None:
        super().__init__(path, doing, what, full, remedy)
        self.path, self.doing, self.what, self.full, self.remedy = path, doing, what, full, remedy

    def __str__(self) -> str:
        then = self.remedy or "fix this and run the same command again"
        return f"{self.doing} {self.path}: {self.what}. Nothing is lost: {then}"


class LedgerDamaged(StorageError):
    """The ledger is not a ledger, or holds what reggen never wrote. A run sets it aside and adopts the images again."""

    def __init__(self, path: str, doing: str, what: str) -> None:
        super().__init__(path, doing, what)
        self.args = (path, doing, what)

    def __str__(self) -> str:
        return (
            f"{self.doing} {self.path}: it is damaged ({self.what}). The images are not touched: `python -m reggen "
            "run` with the same job sets this file aside, checks and adopts the images, and goes on"
        )


class NoUsableServer(ReggenError):
    """None of the job's servers can be used. ``tried`` pairs each URL with the reason."""

    exit_code = NO_SERVER

    def __init__(self, tried: tuple[tuple[str, str], ...]) -> None:
        super().__init__(tried)
        self.tried = tried

    def __str__(self) -> str:
        lines = "\n".join(f"  {url}: {what}" for url, what in self.tried)
        return (
            f"no ComfyUI server can be used:\n{lines}\n"
            "Start ComfyUI, name another server with --server URL, wait for one with --wait, "
            "or try the job without a server: --rehearse"
        )


class DatasetLocked(ReggenError):
    """Another run is filling the dataset."""

    exit_code = BAD_JOB

    def __init__(self, dataset: str, holder: str) -> None:
        super().__init__(dataset, holder)
        self.dataset, self.holder = dataset, holder

    def __str__(self) -> str:
        return f"{self.dataset} is being filled by another run ({self.holder}). Wait for it, or stop it first"
