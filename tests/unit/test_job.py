"""The job file: what it may say, what is made of it, and how its problems are reported."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from reggen.errors import JobError, Problem
from reggen.geometry import DEFAULT_SIZE
from reggen.job import loader
from reggen.job.models import Job
from reggen.job.sampling import SEED_LIMIT
from reggen.prepare.prepared_job import prepare

CONFIGS = Path(__file__).parents[2] / "configs"

DATASET = '[dataset]\nroot = "reg"\nclass = "person"\ncount = 3\n'
SAMPLING = '[sampling]\ncheckpoint = "base.safetensors"\n'
PROMPTS = '[prompts]\npositive = "a person"\n'
WHOLE = DATASET + SAMPLING + PROMPTS


def loaded(folder: Path, text: str, overrides: dict[str, Any] | None = None) -> Job:
    file = folder / "job.toml"
    file.write_text(text, encoding="utf-8")
    return loader.load(file, overrides)


def problems(folder: Path, text: str, overrides: dict[str, Any] | None = None) -> list[str]:
    """The problems of a job file, as they are reported."""
    with pytest.raises(JobError) as caught:
        loaded(folder, text, overrides)
    assert caught.value.file == str(folder / "job.toml")
    return [str(problem) for problem in caught.value.problems]


def a_job(**sections: Any) -> Job:
    document: dict[str, Any] = {
        "dataset": {"root": "reg", "class": "person", "count": 3},
        "sampling": {"checkpoint": "base"},
        "prompts": {"positive": "a person"},
    }
    return Job.model_validate(document | sections)


# ---- what a job file says


def test_the_least_job_file_has_sensible_defaults(tmp_path: Path):
    """Root, class, count, checkpoint and prompt are enough: one local server, 512 x 512, png."""
    made = loaded(tmp_path, WHOLE)
    assert [(server.url, server.depth) for server in made.servers] == [("http://127.0.0.1:8188", None)]
    assert (made.size, made.dataset.format, made.dataset.repeats, made.sampling.batch) == (DEFAULT_SIZE, "png", 1, 1)
    assert made.prompts.positives == (("a person", 1.0),)
    assert (made.prompts.negative, made.workflow) == (None, None)


def test_a_job_is_frozen(tmp_path: Path):
    """Nobody changes a job after it was read."""
    made = loaded(tmp_path, WHOLE)
    with pytest.raises(ValidationError):
        made.dataset = made.dataset  # type: ignore[misc]
    with pytest.raises(ValidationError):
        made.dataset.count = 4  # type: ignore[misc]


def test_the_folders_are_the_trainers_and_ours():
    """Images lie in root/REPEATS_CLASS, as kohya reads it; the state beside it under a name no trainer reads."""
    dataset = a_job(dataset={"root": "reg", "class": "anime_character", "repeats": 4, "count": 1}).dataset
    assert dataset.folder == Path("reg") / "4_anime_character"
    assert dataset.state == Path("reg") / ".reggen" / "4_anime_character"


def test_home_is_understood(monkeypatch: pytest.MonkeyPatch):
    """~ is the user's home, in the dataset's root and in the workflow's file."""
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("USERPROFILE", "/home/somebody")
    made = a_job(dataset={"root": "~/reg", "class": "c", "count": 1}, workflow={"file": "~/graph.json"})
    assert made.dataset.root == Path("/home/somebody/reg")
    assert made.workflow is not None
    assert made.workflow.file == Path("/home/somebody/graph.json")


@pytest.mark.parametrize(
    "text", [WHOLE.replace('"reg"', '"~no-such-user/reg"'), WHOLE + '[workflow]\nfile="~nobody-/g"']
)
def test_somebody_elses_unknown_home_is_a_problem_of_the_job(tmp_path: Path, text: str):
    """~name of a user who does not exist is reported like any other wrong value."""
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(("dataset.root: ", "workflow.file: "))


def test_a_relative_root_stays_relative(tmp_path: Path):
    """Relative paths are taken from the working directory, not from the job file's folder."""
    assert loaded(tmp_path, WHOLE).dataset.root == Path("reg")


def test_prompts_may_be_one_or_several():
    """One text, or a list that is gone through in turn."""
    assert a_job(prompts={"positive": ["a", "b"]}).prompts.positives == (("a", 1.0), ("b", 1.0))


def test_the_size_belongs_to_the_job_or_to_the_workflow():
    """A size in the job holds; without one the built-in graph has its default and a workflow its own."""
    sized = {"checkpoint": "base", "width": 640, "height": 768}
    assert a_job(sampling=sized).size == (640, 768)
    assert a_job(sampling=sized, workflow={"file": "g.json"}).size == (640, 768)
    assert a_job(workflow={"file": "g.json"}).size == "workflow"
    assert a_job().size == DEFAULT_SIZE


def test_servers_may_be_plain_addresses(tmp_path: Path):
    """A list of addresses is as good as a table for each; a slash at the end means nothing."""
    made = loaded(tmp_path, 'servers = ["http://a:8188/", "https://b.example/comfy"]\n' + WHOLE)
    assert [server.url for server in made.servers] == ["http://a:8188", "https://b.example/comfy"]
    assert [server.name for server in made.servers] == ["a:8188", "b.example/comfy"]


def test_headers_take_secrets_from_the_environment():
    """Every ${NAME} in a header is replaced, several in one value too; a single $ stands for itself."""
    (server,) = a_job(
        servers=[{"url": "http://a", "headers": {"Authorization": "Bearer ${TOKEN}", "X": "${A}-${B}$c", "Y": "plain"}}]
    ).servers
    environ = {"TOKEN": "t0k", "A": "1", "B": "2"}
    assert server.resolved_headers(environ) == {"Authorization": "Bearer t0k", "X": "1-2$c", "Y": "plain"}


def test_headers_come_from_the_real_environment_by_default(monkeypatch: pytest.MonkeyPatch):
    """By default it is the process's own, as it is at the time of the call."""
    (server,) = a_job(servers=[{"url": "http://a", "headers": {"X": "${REGGEN_TEST_TOKEN}"}}]).servers
    monkeypatch.setenv("REGGEN_TEST_TOKEN", "later")
    assert server.resolved_headers() == {"X": "later"}


def test_a_variable_that_is_not_set_is_named():
    """A missing variable is never sent as an empty secret."""
    (server,) = a_job(servers=[{"url": "http://a", "headers": {"X": "${NOT_SET}"}}]).servers
    with pytest.raises(KeyError, match="NOT_SET"):
        server.resolved_headers({})


# ---- secrets


def test_secrets_are_in_no_picture_of_a_job():
    """Neither repr nor str nor JSON shows what a header says."""
    made = a_job(servers=[{"url": "http://a", "headers": {"Authorization": "Bearer s3cret"}}])
    for shown in (repr(made), str(made), repr(made.servers[0].headers), made.model_dump_json(), str(made.model_dump())):
        assert "s3cret" not in shown


@pytest.mark.parametrize(
    "server",
    [
        'url = "http://user:s3cret@host"',
        'url = "ftp://user:s3cret@host"',
        'url = "http://a"\nheaders = "Bearer s3cret"',
        'url = "http://a"\nheaders = ["Authorization: s3cret"]',
        'url = "http://a"\nheaders = {Authorization = ["s3cret"]}',
        'url = "http://a"\nheaders = {Authorization = 5333}',
    ],
    ids=["in the URL", "in a wrong URL", "one header as text", "headers as a list", "a list as value", "a number"],
)
def test_secrets_are_in_no_error(tmp_path: Path, server: str):
    """Problems of a job file never quote its headers or addresses."""
    reported = "\n".join(problems(tmp_path, WHOLE + "[[servers]]\n" + server))
    assert "s3cret" not in reported
    assert "5333" not in reported


# ---- overrides


def test_the_command_line_is_laid_over_the_file(tmp_path: Path):
    """Single keys are replaced and their neighbours kept; a list replaces the whole list."""
    text = 'servers = ["http://a", "http://b"]\n' + WHOLE
    made = loaded(tmp_path, text, {"dataset": {"count": 7, "root": "elsewhere"}, "servers": ["http://c"]})
    assert (made.dataset.count, made.dataset.root, made.dataset.class_tokens) == (7, Path("elsewhere"), "person")
    assert [server.url for server in made.servers] == ["http://c"]


def test_a_section_may_come_from_the_command_line_alone(tmp_path: Path):
    """A key that the file leaves out may be given on the command line."""
    assert loaded(tmp_path, DATASET + PROMPTS, {"sampling": {"checkpoint": "x"}}).sampling.checkpoint == "x"


def test_a_wrong_override_is_told_like_a_wrong_file(tmp_path: Path):
    """The command line's values are checked by the same rules."""
    assert problems(tmp_path, WHOLE, {"dataset": {"count": 0}, "servers": ["localhost:8188"]}) == [
        "dataset.count: 0: it should be greater than or equal to 1",
        "servers[0].url: 'localhost:8188' is not an address; write http://localhost:8188",
    ]


# ---- what is wrong with it


def test_all_errors_come_at_once(tmp_path: Path):
    """All problems of a job file are reported at once, with the nearest keys and values."""
    text = """
    [dataset]
    root = "reg"
    clas = "person"
    count = 0
    format = "jpeg"
    [[servers]]
    url = "http://a"
    [[servers]]
    url = "b:8188"
    dept = 3
    [sampling]
    width = 500
    height = 512
    steps = "many"
    [prompts]
    positive = " "
    [checks]
    blak = true
    [limit]
    attempts = 3
    """
    assert sorted(problems(tmp_path, text)) == [
        "checks.blak: is not a key of the job file (did you mean 'black'?)",
        "dataset.clas: is not a key of the job file (did you mean 'class'?)",
        "dataset.class: is missing",
        "dataset.count: 0: it should be greater than or equal to 1",
        "dataset.format: 'jpeg' is none of png, webp, jpg (did you mean 'jpg'?)",
        "limit: is not a key of the job file (did you mean 'limits'?)",
        "prompts.positive: a positive prompt must not be empty",
        "sampling.checkpoint: is missing (the built-in workflow needs it)",
        "sampling.steps: 'many': it should be a valid integer, unable to parse string as an integer",
        "sampling.width: 500 is not a multiple of 8 (496 and 504 are)",
        "servers[1].dept: is not a key of the job file (did you mean 'depth'?)",
        "servers[1].url: 'b:8188' is not an address; write http://b:8188",
    ]


def test_an_empty_file_is_told_what_it_needs(tmp_path: Path):
    """From nothing to a job: what must be there is named."""
    assert problems(tmp_path, "") == [
        "sampling.checkpoint: is missing (the built-in workflow needs it)",
        "prompts.positive: is missing (the built-in workflow needs it)",
        "dataset: is missing",
    ]


def test_with_a_workflow_checkpoint_and_prompt_may_be_its_own(tmp_path: Path):
    """A graph of the user's own brings its checkpoint and prompts along."""
    made = loaded(tmp_path, DATASET + '[workflow]\nfile = "g.json"\nbindings = {seed = "3.seed"}')
    assert (made.sampling.checkpoint, made.prompts.positives) == (None, ())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (DATASET + SAMPLING + "width = 512\n" + PROMPTS, "sampling: width and height are given together or not at all"),
        (
            DATASET
            + SAMPLING
            + 'size = "match"\n'
            + PROMPTS
            + "[matrix]\nsize = [[512, 512]]\n[training]\nfolder = 't'\nresolution = 512\n",
            "matrix.size: stands beside sampling.size = 'match'; sizes come from one place (leave one of the two out)",
        ),
        ("width = 512\n" + WHOLE, "width: is not a key of the job file (it belongs to sampling.width)"),
        (
            DATASET + "width = 1\n" + SAMPLING + PROMPTS,
            "dataset.width: is not a key of the job file (it belongs to sampling.width)",
        ),
        (WHOLE.replace('"person"', '"a/b"'), "dataset.class: it must not contain '/': it becomes part of a file name"),
        (
            WHOLE.replace('"person"', '" a"'),
            "dataset.class: it must not be empty, nor begin or end with a space or a dot",
        ),
        (
            WHOLE.replace('"person"', '""'),
            "dataset.class: it must not be empty, nor begin or end with a space or a dot",
        ),
        (WHOLE.replace('"reg"', '""'), "dataset.root: it is empty; name the folder"),
        (
            WHOLE.replace("count = 3", 'count = 3\nprefix = ".hidden"'),
            "dataset.prefix: it must not be empty, nor begin or end with a space or a dot",
        ),
        (
            WHOLE.replace("count = 3", "count = 3.5"),
            "dataset.count: 3.5: it should be a valid integer, got a number with a fractional part",
        ),
        (
            WHOLE.replace("count = 3", 'count = 3\nformat = "PNG"'),
            "dataset.format: 'PNG' is none of png, webp, jpg (did you mean 'png'?)",
        ),
        (WHOLE.replace("count = 3", 'count = 3\nformat = "tiff"'), "dataset.format: 'tiff' is none of png, webp, jpg"),
        (
            DATASET + SAMPLING + f"seed = {SEED_LIMIT}\n" + PROMPTS,
            f"sampling.seed: {SEED_LIMIT}: it should be less than {SEED_LIMIT}",
        ),
        (DATASET + SAMPLING + "cfg = nan\n" + PROMPTS, "sampling.cfg: nan: it should be less than or equal to 100"),
        ('servers = ["http://a", "http://a/"]\n' + WHOLE, "servers: http://a is named twice; raise its depth instead"),
        (
            'servers = ["http://u:p@a"]\n' + WHOLE,
            "servers[0].url: credentials do not belong in the URL; use headers with ${NAME}",
        ),
        (
            'servers = ["http://a/?token=s3cret"]\n' + WHOLE,
            (
                "servers[0].url: it must end before the ?; send a token as a header: headers = "
                '{ Authorization = "Bearer ${TOKEN}" }, or under the name that the server reads'
            ),
        ),
        ('servers = ["http://a/#x"]\n' + WHOLE, "servers[0].url: it must end before the #"),
        (
            '[[servers]]\nurl = "http://a"\ncertificate = "server.pem"\n' + WHOLE,
            "servers[0]: certificate needs a url that begins with https://",
        ),
        (DATASET + SAMPLING + "[prompts]\npositive = []", "prompts.positive: a positive prompt must not be empty"),
        (WHOLE + "[limits]\nattempts = 0", "limits.attempts: 0: it should be greater than or equal to 1"),
        (WHOLE + "[workflow]\nbindings = {}", "workflow.file: is missing"),
        (
            WHOLE + '[workflow]\nfile = "g"\nbinding = {}',
            "workflow.binding: is not a key of the job file (did you mean 'bindings'?)",
        ),
    ],
)
def test_each_mistake_has_its_sentence(tmp_path: Path, text: str, problem: str):
    """One mistake is one problem: the key, what is wrong, and what would be right."""
    assert problems(tmp_path, text) == [problem]


@pytest.mark.parametrize("width", ['"513"', "513.0", '"half"'])
def test_a_size_of_another_type_is_a_problem_too(tmp_path: Path, width: str):
    """A size in quotes is as wrong as its number is, and never a traceback."""
    (problem,) = problems(tmp_path, DATASET + SAMPLING + f"width = {width}\nheight = 512\n" + PROMPTS)
    assert problem.startswith("sampling.width: ")


@pytest.mark.parametrize("width", [3, 63, 16_385, -1])
def test_a_proposed_size_is_one_that_is_allowed(tmp_path: Path, width: int):
    """What a hint proposes would itself be accepted."""
    (problem,) = problems(tmp_path, DATASET + SAMPLING + f"width = {width}\nheight = 512\n" + PROMPTS)
    assert problem.startswith("sampling.width: ")
    proposed = [int(word) for word in problem.partition("(")[2].replace(")", "").split() if word.isdecimal()]
    assert all(64 <= size <= 16_384 for size in proposed)


def test_a_key_of_another_section_is_sent_home_before_one_that_only_looks_alike(tmp_path: Path):
    """The hint names the table that has the key, whatever key here it resembles."""
    (problem,) = problems(tmp_path, DATASET + "steps = 20\n" + SAMPLING + PROMPTS)
    assert problem == "dataset.steps: is not a key of the job file (it belongs to sampling.steps)"


@pytest.mark.parametrize(
    ("key", "home"), [('class = "x"', "dataset.class"), ('url = "http://a"', "servers"), ("depth = 2", "servers")]
)
def test_every_key_is_sent_home(tmp_path: Path, key: str, home: str):
    """The hint for a key at the top of the file names the table it belongs to."""
    (problem,) = problems(tmp_path, key + "\n" + WHOLE)
    assert f"it belongs to {home}" in problem


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (WHOLE + '[servers]\nurl = "http://a"', "[[servers]]"),
        ('servers = "http://a"\n' + WHOLE, "list"),
        ("servers = []\n" + WHOLE, "at least one"),
        ("checks = 1\n" + WHOLE, "[checks]"),
        ("servers = [5]\n" + WHOLE, "address"),
        (DATASET + SAMPLING + "[prompts]\npositive = 5", "text"),
        (WHOLE + '[guard]\nforbid = "red"', 'write it as a list: forbid = ["red"]'),
        (WHOLE + "[matrix]\nsteps = 20", "write it as a list: steps = [20]"),
        (WHOLE + '[notify]\nurls = "ntfy://s3cret"', "write it as a list: urls = [...]"),
    ],
    ids=[
        "one table",
        "one address",
        "none",
        "a section that is a value",
        "a number for a server",
        "a number for a prompt",
        "one forbidden word",
        "one value of a matrix",
        "one address to notify",
    ],
)
def test_mistakes_of_form_are_told_in_the_words_of_toml(tmp_path: Path, text: str, says: str):
    """The problem names [[servers]] where [servers] was written, and never tuples, dictionaries or instances."""
    (problem,) = problems(tmp_path, text)
    assert says in problem
    assert not any(word in problem for word in ("tuple", "dictionary", "instance", "s3cret"))


def test_one_wrong_prompt_in_a_list_is_one_problem(tmp_path: Path):
    """A number among the prompts is reported once, with its place."""
    (problem,) = problems(tmp_path, DATASET + SAMPLING + '[prompts]\npositive = ["a", 5]')
    assert problem.startswith("prompts.positive[1]: 5")


@pytest.mark.parametrize("url", ["http://a:99999", "http://a:port", "http://a b", "http://127.0.0.1:8188 "])
def test_an_address_that_cannot_be_connected_to_is_a_problem_of_the_job(tmp_path: Path, url: str):
    """A port that is none, or a space in an address, is found before the night begins."""
    (problem,) = problems(tmp_path, f'servers = ["{url}"]\n' + WHOLE)
    assert problem.startswith("servers[0].url: ")


@pytest.mark.parametrize("urls", [["http://a:1", "https://a:1"], ["http://HOST:1", "http://host:1"]])
def test_two_servers_never_share_a_name(tmp_path: Path, urls: list[str]):
    """Servers are identified by name everywhere: two with the same name are one server given twice."""
    (problem,) = problems(tmp_path, f"servers = {json.dumps(urls)}\n" + WHOLE)
    assert "is named twice" in problem


def test_class_is_spelt_in_one_way_only(tmp_path: Path):
    """The key is class, as the documentation and the schema have it."""
    reported = problems(tmp_path, WHOLE.replace("class =", "class_tokens ="))
    assert reported == ["dataset.class_tokens: is not a key of the job file (here it is called dataset.class)"]


def test_true_is_no_count(tmp_path: Path):
    """True is not taken for 1."""
    (problem,) = problems(tmp_path, WHOLE.replace("count = 3", "count = true"))
    assert problem.startswith("dataset.count: ")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (WHOLE.replace("count = 3", 'count = "match"'), "dataset.count"),
        (DATASET + SAMPLING + 'size = "match"\n' + PROMPTS, "sampling.size"),
        (DATASET + SAMPLING + '[prompts]\nfrom = "captions"\n', "prompts.from"),
        (WHOLE + '[captions]\nwrite = "training"\n', "captions.write"),
    ],
    ids=["count", "size", "prompts", "captions"],
)
def test_what_comes_from_the_training_set_needs_one(tmp_path: Path, text: str, key: str):
    """Without [training] nothing is guessed: not one image, not some size, not an empty prompt."""
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(f"{key}: ")
    assert problem.endswith("needs the training set (add [training] with its folder)")


def test_a_count_from_the_command_line_stands_for_one_that_is_to_match(tmp_path: Path):
    """--count 5 says how many: then no training set is needed for it."""
    text = WHOLE.replace("count = 3", 'count = "match"')
    assert loaded(tmp_path, text, {"dataset": {"count": 5}}).dataset.count == 5


LONG, WIDE = "x" * 256, "\u4eba" * 151


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (WHOLE.replace('"reg"', f'"{LONG}"'), "dataset.root"),
        (WHOLE.replace('"reg"', f'"{"a/" * 3000}"'), "dataset.root"),
        (WHOLE.replace('"person"', f'"{LONG}"'), "dataset.class"),
        (WHOLE.replace('"person"', f'"{WIDE}"'), "dataset.class"),
        (WHOLE.replace("count = 3", f'count = 3\nprefix = "{LONG}"'), "dataset.prefix"),
        (WHOLE.replace('class = "person"\n', "") + f'[[class]]\nwords = "{LONG}"\n', "class[0].words"),
        (WHOLE + f'[workflow]\nfile = "{LONG}"\n', "workflow.file"),
        (WHOLE + f'[training]\nfolder = "a/{LONG}/b"\n', "training.folder"),
        (WHOLE + f'[training]\nconfig = "{LONG}"\n', "training.config"),
        (WHOLE + f'wildcards = "{LONG}"\n', "prompts.wildcards"),
        (f'servers = [{{ launch = "{LONG}" }}]\n' + WHOLE, "servers[0].launch"),
        (f'servers = [{{ launch = "x", python = "{LONG}" }}]\n' + WHOLE, "servers[0].python"),
    ],
    ids=lambda value: value if len(value) < 20 else "",
)
def test_a_name_that_no_file_system_takes_is_a_problem_of_the_job(tmp_path: Path, text: str, key: str):
    """It is found before anything is made, and its length is reported."""
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(f"{key}: ")
    assert "too long" in problem
    assert len(problem) < 300


@pytest.mark.parametrize(
    "text",
    [
        "class = 1.5\n" + WHOLE,
        "class = true\n" + WHOLE,
        "class = 1979-05-27\n" + DATASET + SAMPLING,
        "class = [1]\n" + DATASET + SAMPLING,
        "class = [5, { words = 1 }]\n" + DATASET + SAMPLING,
        "dataset = 5\n" + SAMPLING + PROMPTS,
        WHOLE + "[[class]]\nwords = 'a'\nshare = inf\n",
        WHOLE + "[training]\nfolder = 't'\nresolution = -1\n",
        WHOLE + "[training]\nfolder = 't'\nresolution = 1000000000\n",
        WHOLE + "[training]\nfolder = 't'\nmax_bucket_reso = 1000000000\n",
        WHOLE + "[[servers]]\nlaunch = 'x'\nmemory_gib = inf\n",
        WHOLE + "[[servers]]\nlaunch = 'x'\nurl = 'http://127.0.0.1:65535'\ngpus = [0, 1]\n",
        WHOLE + "[[servers]]\nlaunch = 'x'\ngpus = [-1]\n",
        WHOLE + "[[servers]]\nlaunch = 'x'\narguments = [\"a\\u0000b\"]\n",
        WHOLE.replace("count = 3", f"count = {'9' * 5000}"),
        WHOLE.replace('"a person"', f"[{{ text = 'a', weight = {'9' * 5000} }}]"),
        WHOLE.replace("count = 3", f"count = 0x{'9' * 5000}"),
        WHOLE.replace("count = 3", f"count = 3\nformat = 0x{'9' * 5000}"),
        WHOLE + f"[guard]\nforbid = 0x{'9' * 5000}\n",
        WHOLE + "x" * 5000 + " = 1\n",
        "x = " + "[" * 5000 + "]" * 5000 + "\n" + WHOLE,
    ],
    ids=lambda _: "",
)
def test_values_of_another_kind_or_size_are_problems_and_no_tracebacks(tmp_path: Path, text: str):
    """Whatever a value is, the answer is a sentence."""
    assert all(len(problem) < 600 for problem in problems(tmp_path, text))


# ---- the file itself


def test_a_file_that_never_ends_is_no_job_file(tmp_path: Path):
    """More than a few megabytes are not read."""
    (tmp_path / "job.toml").write_bytes(b"#" * (5 << 20))
    with pytest.raises(JobError, match="larger than 4 MiB"):
        loader.load(tmp_path / "job.toml")


def test_a_missing_file_names_a_near_one(tmp_path: Path):
    """The hint for a mistyped file name is the job file beside it."""
    (tmp_path / "spyke.toml").write_text(WHOLE)
    with pytest.raises(JobError) as caught:
        loader.load(tmp_path / "spike.toml")
    assert caught.value.problems == (Problem("", "there is no such file", f"did you mean {tmp_path / 'spyke.toml'}?"),)


def test_a_missing_file_in_a_missing_folder_has_an_example(tmp_path: Path):
    """Without a file nearby the hint is an example."""
    with pytest.raises(JobError, match=r"name a job file such as configs/spyke.toml"):
        loader.load(tmp_path / "no" / "where.toml")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a = [", "line 1: the list is not closed"),
        (b"\xff\xfe", "it is UTF-16"),
        (b'a = "\xe9"', "line 1: it is not UTF-8 (0xE9"),
    ],
)
def test_a_file_that_is_no_toml_is_told_where(tmp_path: Path, content: bytes, problem: str):
    """What cannot be read at all is one problem, with its place."""
    (tmp_path / "job.toml").write_bytes(content)
    with pytest.raises(JobError) as caught:
        loader.load(tmp_path / "job.toml")
    (found,) = caught.value.problems
    assert str(found).startswith(problem)


def test_a_folder_is_no_job_file(tmp_path: Path):
    """A folder in the file's place is reported as unreadable."""
    with pytest.raises(JobError, match="it cannot be read: "):
        loader.load(tmp_path)


def test_a_file_from_notepad_is_read(tmp_path: Path):
    """A byte order mark and Windows line ends are accepted."""
    (tmp_path / "job.toml").write_bytes(b"\xef\xbb\xbf" + WHOLE.replace("\n", "\r\n").encode())
    assert loader.load(tmp_path / "job.toml").dataset.count == 3


@pytest.mark.parametrize("root", [r"D:\sets\reg", r"C:\Users\me\reg"])
def test_backslashes_in_a_windows_path_are_explained(tmp_path: Path, root: str):
    """A Windows path in double quotes is the commonest mistake in TOML; the hint says how to write it."""
    (problem,) = problems(tmp_path, f'[dataset]\nroot = "{root}"\n')
    assert "write Windows paths with / or in 'single quotes'" in problem


# ---- the schema and the examples


def test_the_schema_file_is_the_schema():
    """configs/job.schema.json is what `python -m reggen schema` prints."""
    assert json.loads((CONFIGS / "job.schema.json").read_text(encoding="utf-8")) == loader.schema()


def test_the_schema_knows_the_keys_as_they_are_written():
    """Editors see class instead of class_tokens, and that no other key is allowed."""
    dataset = loader.schema()["$defs"]["Dataset"]
    assert dataset["required"] == ["root", "count"]
    assert dataset["additionalProperties"] is False
    assert set(loader.schema()["properties"]) == {field.alias or name for name, field in Job.model_fields.items()}


def test_the_schema_is_titled():
    """An editor that shows the schema's title shows what it is for."""
    assert loader.schema()["title"] == "reggen job file"


def test_the_schema_allows_plain_addresses():
    """servers = ["http://..."] is valid to the editor, as it is to reggen."""
    items = loader.schema()["properties"]["servers"]["items"]
    forms = items.get("anyOf", [items])
    assert any(form.get("type") == "string" for form in forms)


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_every_example_loads(file: Path):
    """Each job file in configs/ is valid and names the schema for editors."""
    assert loader.load(file).dataset.count != 0
    assert file.read_text(encoding="utf-8").startswith("#:schema ./job.schema.json\n")


def test_the_first_example_is_the_run_it_replaces():
    """configs/spyke.toml is the hand-made run: 100 images of 512 x 512, as they were."""
    spyke = loader.load(CONFIGS / "spyke.toml")
    assert spyke.dataset.folder == Path("dataset/spyke/reg/1_anime_character")
    assert (spyke.dataset.prefix, spyke.dataset.count, spyke.size) == ("reg", 100, (512, 512))
    sampling = spyke.sampling
    assert (sampling.checkpoint, sampling.steps, sampling.cfg) == ("AnythingXL_inkBase.safetensors", 20, 7.0)
    assert (sampling.sampler, sampling.scheduler) == ("euler_ancestral", "normal")
    for word in ("spyke_plasma_v1", "red bandana", "white cloak", "ginger hair"):
        assert word in (spyke.prompts.negative or "")
        assert word not in " ".join(text for text, _ in spyke.prompts.positives)


# ---- what a job names and is no file


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize("kind", ["a pipe", "a device"])
@pytest.mark.parametrize(
    ("text", "file"),
    [(WHOLE + "[workflow]\nfile = 'x.json'\n", "x.json"), (WHOLE + "[training]\nconfig = 'x.toml'\n", "x.toml")],
    ids=["workflow", "config"],
)
def test_what_is_no_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, file: str, kind: str
):
    """Nor read until memory is full: a job's own workflow and config are files."""
    monkeypatch.chdir(tmp_path)
    if kind == "a pipe":
        os.mkfifo(file)
    else:
        Path(file).symlink_to("/dev/zero")
    with pytest.raises(JobError, match="it is a pipe or a device, not a file"):
        prepare(loaded(tmp_path, text), "job.toml")


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs pipes with names")
def test_a_job_file_may_come_from_a_pipe():
    """`reggen plan <(make_job)`: what another program writes is read to its end."""
    reading, writing = os.pipe()
    os.write(writing, WHOLE.encode())
    os.close(writing)
    try:
        assert loader.load(f"/dev/fd/{reading}").dataset.count == 3
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("value", "shown"),
    [("1979-05-27", "1979-05-27"), ("1979-05-27T07:32:00", "1979-05-27T07:32:00"), ("07:32:00", "07:32:00")],
)
def test_a_value_is_shown_as_toml_writes_it(tmp_path: Path, value: str, shown: str):
    """Nobody who writes a job file has heard of datetime.date."""
    (problem,) = problems(tmp_path, f'dataset = {{ root = "a", class = "b", count = {value} }}\n' + SAMPLING + PROMPTS)
    assert problem.startswith(f"dataset.count: {shown}: ")


def test_true_is_shown_as_toml_writes_it(tmp_path: Path):
    """Python writes it with a capital."""
    (problem,) = problems(tmp_path, WHOLE + "[guard]\nforbid = [true]")
    assert problem.startswith("guard.forbid[0]: true: ")


def test_replace_takes_a_truth_value_or_a_text() -> None:
    """`replace = true` is the class tokens, as before there was a text; a number is neither."""
    for value in (True, False, "a woman"):
        assert a_job(prompts={"positive": "x", "replace": value}).prompts.replace == value
    with pytest.raises(ValidationError):
        a_job(prompts={"positive": "x", "replace": 1.5})
