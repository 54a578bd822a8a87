"""The exception tree: its shape, its sentences, its exit codes, its way through a pickle."""

import copy
import pickle
import re

import pytest

from reggen import errors
from reggen.errors import (
    BadImage,
    DatasetLocked,
    DuplicateImage,
    ExecutionError,
    ForbiddenWord,
    HttpStatusError,
    InvalidResponse,
    JobError,
    LedgerDamaged,
    MissingOutput,
    NotDownloaded,
    NoUsableServer,
    Problem,
    PromptInterrupted,
    PromptLost,
    PromptRejected,
    ReggenError,
    SampleError,
    ServerDiskFull,
    ServerError,
    StorageError,
    Unreachable,
    UntrustedCertificate,
    WorkflowError,
    WrongSizeImage,
)

SERVER = "127.0.0.1:8188"

SENTENCES = [
    (ReggenError("something"), 1, "something"),
    (
        JobError("a.toml", (Problem("dataset.count", "is missing"),)),
        2,
        "a.toml has one problem:\n  dataset.count: is missing",
    ),
    (
        JobError("a.toml", (Problem("", "it is not UTF-8", "save it again"), Problem("cfg", "is wrong", "try 7"))),
        2,
        "a.toml has 2 problems:\n  it is not UTF-8 (save it again)\n  cfg: is wrong (try 7)",
    ),
    (
        WorkflowError("g.json", (Problem("workflow", "has no SaveImage node", "add one"),)),
        2,
        "g.json has one problem:\n  workflow: has no SaveImage node (add one)",
    ),
    (ServerError(SERVER, "asking for its nodes"), 4, "asking for its nodes at 127.0.0.1:8188: it failed"),
    (
        Unreachable(SERVER, "queueing a prompt", "no answer within 30 s", True),
        4,
        "queueing a prompt at 127.0.0.1:8188: no answer within 30 s",
    ),
    (
        UntrustedCertificate(SERVER, "connecting", "its certificate is not trusted"),
        4,
        "connecting at 127.0.0.1:8188: its certificate is not trusted",
    ),
    (
        HttpStatusError(SERVER, "queueing a prompt", 503, "busy", 2.5),
        4,
        "queueing a prompt at 127.0.0.1:8188: HTTP 503: busy",
    ),
    (HttpStatusError(SERVER, "freeing memory", 404, ""), 4, "freeing memory at 127.0.0.1:8188: HTTP 404"),
    (
        InvalidResponse(SERVER, "reading the queue", "the answer is no queue"),
        4,
        "reading the queue at 127.0.0.1:8188: the answer is no queue",
    ),
    (
        ServerDiskFull(SERVER, "saving an image", "its disk is full"),
        4,
        "saving an image at 127.0.0.1:8188: its disk is full",
    ),
    (SampleError("these images"), 1, "these images"),
    (
        PromptRejected(SERVER, ("KSampler (node 3): bad", "VAE (node 8): worse")),
        1,
        "127.0.0.1:8188 refused the prompt: KSampler (node 3): bad; VAE (node 8): worse",
    ),
    (
        ExecutionError(SERVER, "KSampler (node 3)", "RuntimeError", "boom"),
        1,
        "KSampler (node 3) raised RuntimeError on 127.0.0.1:8188: boom",
    ),
    (
        ExecutionError(SERVER, "KSampler (node 3)", "RuntimeError", "no room", True),
        1,
        "127.0.0.1:8188 ran out of memory in KSampler (node 3): no room",
    ),
    (
        MissingOutput(SERVER, 4, 2),
        1,
        "127.0.0.1:8188 reported success but made 2 of 4 images",
    ),
    (
        ForbiddenWord("reg_001", "'cape' at character 3"),
        1,
        "the prompt of reg_001 has a forbidden word: 'cape' at character 3",
    ),
    (NotDownloaded("a:1", "HTTP 403"), 1, "a:1 made the image, but it could not be downloaded: HTTP 403"),
    (BadImage("reg_007", "is black"), 1, "the image for reg_007 is black"),
    (
        WrongSizeImage("reg_007", "is 8x8 where 9x9 was asked for"),
        1,
        "the image for reg_007 is 8x8 where 9x9 was asked for",
    ),
    (DuplicateImage("reg_007", "looks like reg_004"), 1, "the image for reg_007 looks like reg_004"),
    (BadImage("reg_007", "ends before its last row", True), 1, "the image for reg_007 ends before its last row"),
    (PromptInterrupted(SERVER), 1, "the prompt was interrupted on 127.0.0.1:8188"),
    (PromptLost(SERVER), 1, "the prompt vanished from 127.0.0.1:8188 (restarted, or somebody deleted it)"),
    (PromptLost(SERVER, "it has been away"), 1, "the prompt vanished from 127.0.0.1:8188 (it has been away)"),
    (
        StorageError("/data/reg", "writing", "no space left"),
        5,
        "writing /data/reg: no space left. Nothing is lost: fix this and run the same command again",
    ),
    (
        LedgerDamaged("/data/ledger.sqlite", "reading the ledger", "a row is odd"),
        5,
        (
            "reading the ledger /data/ledger.sqlite: it is damaged (a row is odd). The images are not touched: "
            "`python -m reggen run` with the same job sets this file aside, checks and adopts the images, and goes on"
        ),
    ),
    (
        NoUsableServer((("http://a:1", "no answer"), ("http://b:1", "HTTP 403"))),
        4,
        (
            "no ComfyUI server can be used:\n  http://a:1: no answer\n  http://b:1: HTTP 403\n"
            "Start ComfyUI, name another server with --server URL, wait for one with --wait, "
            "or try the job without a server: --rehearse"
        ),
    ),
    (
        DatasetLocked("/data/reg", "process 12"),
        2,
        "/data/reg is being filled by another run (process 12). Wait for it, or stop it first",
    ),
]


def _named(value: object) -> str | None:
    return type(value).__name__ if isinstance(value, Exception) else None


def _tree(root: type[ReggenError] = ReggenError) -> dict[str, str]:
    """Every class below ``root`` with its parent."""
    found: dict[str, str] = {}
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            found |= {child.__name__: root.__name__} | _tree(child)
    return found


def _drawing() -> dict[str, str]:
    """The tree as the module's docstring draws it: class and parent."""
    parents, found = {-1: "ReggenError"}, {}
    for line in (errors.__doc__ or "").splitlines():
        if drawn := re.match(r"    ((?:│   |    )*)[├└]─ (\w+)", line):
            depth = len(drawn[1]) // 4
            parents[depth] = drawn[2]
            found[drawn[2]] = parents[depth - 1]
    return found


@pytest.mark.parametrize(("error", "code", "sentence"), SENTENCES, ids=_named)
def test_every_error_is_a_sentence(error: ReggenError, code: int, sentence: str):
    """An error's text says what was being done, to what, what happened, and what to do about it."""
    assert str(error) == sentence


@pytest.mark.parametrize(("error", "code", "sentence"), SENTENCES, ids=_named)
def test_every_error_has_its_exit_code(error: ReggenError, code: int, sentence: str):
    """A run that ends by an error returns that error's own exit code."""
    assert error.exit_code == code


@pytest.mark.parametrize(("error", "code", "sentence"), SENTENCES, ids=_named)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling(error: ReggenError, code: int, sentence: str, protocol: int):
    """An error that was sent to another process has the same class, fields, arguments and sentence there."""
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert (again.args, vars(again), str(again)) == (error.args, vars(error), sentence)


@pytest.mark.parametrize(("error", "code", "sentence"), SENTENCES, ids=_named)
def test_every_error_is_made_of_its_positional_arguments_alone(error: ReggenError, code: int, sentence: str):
    """An error's arguments make the same error again, with nothing carried beside them."""
    again = type(error)(*error.args)
    assert (vars(again), str(again)) == (vars(error), sentence)
    assert str(copy.copy(error)) == sentence


def test_fields_given_by_name_survive_pickling_too():
    """Naming an argument at the raise loses nothing on the way to another process."""
    for error in (
        Unreachable(SERVER, "posting", "timed out", may_have_arrived=True),
        HttpStatusError(SERVER, "posting", 429, "slow down", retry_after=7.0),
        InvalidResponse(SERVER, "posting", "it answered with a web page", is_web_page=True),
        PromptRejected(SERVER, ("no",)),
        ExecutionError(SERVER, "KSampler", "RuntimeError", "boom", out_of_memory=True),
        BadImage("reg_001", "is torn", torn=True),
        PromptLost(SERVER, what="gone"),
    ):
        assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


def test_the_table_above_knows_every_class():
    """No error is added without its sentence and exit code being written down."""
    assert {type(error).__name__ for error, _, _ in SENTENCES} == {*_tree(), "ReggenError"}


def test_the_docstring_draws_the_tree_as_it_is():
    """The picture in the module's docstring and the classes agree."""
    assert _drawing() == _tree()


def test_the_exit_codes_are_the_documented_ones():
    """0 complete, 1 images missing, 2 bad job, 4 no server, 5 storage, 130 stopped by the user."""
    codes = (errors.COMPLETE, errors.INCOMPLETE, errors.BAD_JOB, errors.NO_SERVER, errors.STORAGE, errors.STOPPED)
    assert codes == (0, 1, 2, 4, 5, 130)
