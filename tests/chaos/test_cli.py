"""The real command line as a subprocess: what a person sees, signals, and sudden death."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from PIL import Image

from reggen.job.loader import load
from reggen.job.models import Job
from reggen.sim import Fault, Settings, serve
from reggen.sim.http.reply import HttpReply, HttpRequest
from tests.conftest import NOWHERE, eventually
from tests.invariants import assert_sound

ROOT = Path(__file__).parents[2]
SPYKE = str(ROOT / "configs" / "spyke.toml")
needs_signals = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send to one process")


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    file = tmp_path / "job.toml"
    file.write_text(
        f"""
        servers = ["{NOWHERE}"]
        [dataset]
        root = '{(tmp_path / "reg").as_posix()}'
        class = "thing"
        count = 40
        [sampling]
        checkpoint = "AnythingXL_inkBase.safetensors"
        width = 64
        height = 64
        [prompts]
        positive = ["a cat", "a dog"]
        negative = ""
        """,
        encoding="utf-8",
    )
    return file


def reggen(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run it to its end, within a limit."""
    command = [sys.executable, "-m", "reggen", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=90, check=False)


@asynccontextmanager
async def running(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run it beside the test; killed when the block is left."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "reggen", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def make_two_classes(job_file: Path) -> None:
    """Boys and girls in place of things."""
    text = job_file.read_text(encoding="utf-8").replace('class = "thing"\n', "")
    job_file.write_text(f'{text}\n[[class]]\nwords = "boy"\n[[class]]\nwords = "girl"\n', encoding="utf-8")


def name_servers(job_file: Path, servers: str) -> None:
    """Put these into the job file, as TOML has them."""
    text = job_file.read_text(encoding="utf-8")
    job_file.write_text(text.replace(f'"{NOWHERE}"', servers), encoding="utf-8")


def unused_port() -> int:
    """A port that is free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def images(job: Job) -> list[str]:
    return sorted(file.name for file in job.dataset.folder.glob("*.png"))


def test_a_rehearsal_makes_the_dataset_and_again_posts_nothing(tmp_path: Path) -> None:
    """Twelve decodable 512x512 PNGs, reg_001 to reg_012; again: none; one deleted: just that one."""
    words = ("run", SPYKE, "--rehearse", "--count", "12", "--output", str(tmp_path))
    first = reggen(*words)
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "1_anime_character"
    assert sorted(file.name for file in folder.iterdir()) == [f"reg_{n:03d}.png" for n in range(1, 13)]
    for file in folder.iterdir():
        with Image.open(file) as image:
            image.load()
            assert (image.format, image.size) == ("PNG", (512, 512))
    report = tmp_path / ".reggen" / "1_anime_character" / "report.json"
    assert json.loads(report.read_text())["made"] == 12
    again = reggen(*words)
    assert "none: all images were present" in again.stdout
    assert json.loads(report.read_text())["made"] == 0
    before = (folder / "reg_007.png").read_bytes()
    (folder / "reg_007.png").unlink()
    third = reggen(*words)
    assert "refilled     reg_007" in third.stdout
    assert (folder / "reg_007.png").read_bytes() != before


def test_a_run_leaves_the_lists_that_are_asked_for(job_file: Path, tmp_path: Path) -> None:
    """One that cannot be written is a sentence, and the exit code stays the run's."""
    text = job_file.read_text(encoding="utf-8").replace("count = 40", 'count = 3\nlistings = ["jsonl", "csv"]')
    job_file.write_text(text, encoding="utf-8")
    root = tmp_path / "made"
    first = reggen("run", str(job_file), "--rehearse", "--output", str(root))
    assert first.returncode == 0, first.stderr
    lines = (root / "1_thing" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["a cat", "a dog", "a cat"]
    assert len((root / "1_thing.csv").read_text(encoding="utf-8").splitlines()) == 4
    (root / "1_thing.csv").unlink()
    (root / "1_thing.csv" / "mine").mkdir(parents=True)
    again = reggen("run", str(job_file), "--rehearse", "--output", str(root))
    assert again.returncode == 0, again.stderr
    assert "a list of them is not" in again.stdout
    assert "Traceback" not in again.stdout + again.stderr


def test_a_rehearsal_never_touches_the_real_dataset(tmp_path: Path) -> None:
    """Without --output it goes to rehearsal/, named after the job."""
    result = reggen("run", SPYKE, "--rehearse", "--count", "1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    made = tmp_path / "rehearsal" / "spyke"
    assert (made / "1_anime_character" / "reg_001.png").exists()
    log = (made / ".reggen" / "1_anime_character" / "run.log").read_text(encoding="utf-8")
    assert "Complete: 1 of 1 image in" in log, "the log does not say how it ended"
    assert not (tmp_path / "dataset").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("run", "configs/spike.toml"), 2, "did you mean configs/spyke.toml?"),
        (("run", "configs/spyke.toml", "--server", "http://127.0.0.1:9", "--output", "{tmp}"), 4, "--rehearse"),
        (("check", "configs/spyke.toml", "--server", "http://127.0.0.1:9"), 4, "connection refused"),
        (("run", "configs/spyke.toml", "--rehearse", "--server", "http://127.0.0.1:9"), 2, "brings its own"),
        (("run", "configs/spyke.toml", "--count", "0"), 2, "count"),
        (("run", "configs/spyke.toml", "--server", "ftp://here"), 2, "is not an address"),
        (("run", "configs/spyke.toml", "--rehearse", "--for", "0s"), 2, "write 8h"),
        (("sim", "--port", "65535", "--servers", "2"), 2, "beyond the last port"),
        (("frobnicate",), 2, "frobnicate"),
    ],
    ids=[
        "no such job",
        "no server",
        "check without a server",
        "two kinds of server",
        "no images",
        "no address",
        "no time",
        "no port",
        "?",
    ],
)
def test_a_mistake_is_answered_with_a_sentence(tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    """The exit code, what to do about it, and no traceback."""
    result = reggen(*(word.replace("{tmp}", str(tmp_path)) for word in words), cwd=ROOT)
    assert result.returncode == code, result.stdout + result.stderr
    assert said in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_what_cannot_be_printed_is_no_fault_of_the_program() -> None:
    """Standard output goes to a full disk: a sentence, and the exit code of storage."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "reggen", "plan", SPYKE]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=90, check=False)
    assert (result.returncode, "Traceback" in result.stderr) == (5, False), result.stderr
    assert "cannot write to standard output: No space left" in result.stderr


def test_check_finds_notification_addresses_that_cannot_be_used(job_file: Path) -> None:
    """An address for notices that the run would refuse is refused by check, in the same words."""
    words = job_file.read_text(encoding="utf-8")
    job_file.write_text(words + '\n[notify]\nurls = ["ntfy://${REGGEN_TEST_TOPIC}"]\n', encoding="utf-8")
    for command in ("check", "run"):
        result = reggen(command, str(job_file))
        assert result.returncode == 2, result.stdout + result.stderr
        assert "the environment has no REGGEN_TEST_TOPIC" in result.stderr


async def test_check_and_status_tell_the_truth(job_file: Path) -> None:
    """Before, beside and after a run."""
    job = load(job_file)
    async with serve(Settings(seconds=0.1)) as sim:
        checked = await asyncio.to_thread(reggen, "check", str(job_file), "--server", sim.url)
        assert checked.returncode == 0
        assert "ComfyUI 0.33.0: ready" in checked.stdout
        answer, over = sim.answer, asyncio.Event()

        async def later(ask: HttpRequest) -> tuple[HttpReply, Fault | None]:
            if ask.path == "/view" and len(images(job)) >= 2:
                await over.wait()  # until `status` has answered the run goes on
            return await answer(ask)

        sim.answer = later  # type: ignore[method-assign]
        async with running("run", str(job_file), "--count", "20", "--server", sim.url) as process:
            await eventually(lambda: len(images(job)) >= 2)
            beside = await asyncio.to_thread(reggen, "status", str(job_file), "--count", "20", "--json")
            state = json.loads(beside.stdout)
            assert state["done"] >= 2
            assert state["done"] + state["missing"] == 20
            assert f"process {process.pid}" in state["filled_by"]
            over.set()
            assert await asyncio.wait_for(process.wait(), 60) == 0
        after = await asyncio.to_thread(reggen, "status", str(job_file), "--count", "20")
        assert "20 of 20 done, 0 missing" in after.stdout
        assert "no run in progress" in after.stdout


@pytest.mark.parametrize("missing", ["the folder", "main.py", "the python", "the port"])
async def test_check_and_run_agree_on_a_comfyui_that_cannot_be_started(
    job_file: Path, tmp_path: Path, missing: str
) -> None:
    """Both say why in the same words, and both exit with 4, whether somebody answers at its address or not."""
    folder = tmp_path / "ComfyUI"
    async with AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{unused_port()}"
        if missing == "the port":
            url = (await stack.enter_async_context(serve(Settings()))).url
        if missing != "the folder":
            folder.mkdir()
        if missing in {"the python", "the port"}:
            (folder / "main.py").touch()
        python = f", python = '{tmp_path / 'nothere'}'" if missing == "the python" else ""
        name_servers(job_file, f"{{ url = '{url}', launch = '{folder}'{python} }}")
        said = {
            "the folder": "there is no main.py",
            "main.py": "there is no main.py",
            "the python": "there is no python to run at",
            "the port": "is already taken by a server that reggen did not start",
        }[missing]
        for command in ("check", "run"):
            result = await asyncio.to_thread(reggen, command, str(job_file))
            assert result.returncode == 4, result.stdout + result.stderr
            expected = 2 if command == "check" else 1  # a check repeats it in its verdict
            assert (result.stdout + result.stderr).count(said) == expected


@pytest.mark.parametrize("key", ["headers = { Authorization = '${REGGEN_NOT_SET}' }", "certificate = 'nothere.pem'"])
@pytest.mark.parametrize("command", ["check", "run"])
def test_what_a_server_is_to_be_shown_is_missing_in_the_job_file(job_file: Path, command: str, key: str) -> None:
    """The message names the file that is to be changed."""
    name_servers(job_file, f"{{ url = 'https://127.0.0.1:{unused_port()}', {key} }}")
    result = reggen(command, str(job_file))
    assert result.returncode == 2, result.stdout + result.stderr
    assert f"{job_file} has one problem:\n  servers[0]." in result.stderr


def test_rejecting_what_was_not_made_promises_no_others(job_file: Path, tmp_path: Path) -> None:
    """Nothing was set aside, and that is what is said."""
    done = reggen("reject", str(job_file), "1-2")
    assert "2 had no image, so nothing was set aside: reg_001, reg_002" in done.stdout, done.stdout + done.stderr
    assert "The next run makes what is missing:" in done.stdout
    assert "others" not in done.stdout


def test_a_stand_in_that_cannot_start_says_why_in_words(tmp_path: Path) -> None:
    """A port that is taken, a script that is not there, an image that never ends."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = reggen("sim", "--port", str(taken.getsockname()[1]))
    assert (done.returncode, "something listens there already" in done.stderr) == (2, True), done.stderr
    done = reggen("sim", "--faults", str(tmp_path / "nothere.toml"))
    assert (done.returncode, "there is no such file" in done.stderr) == (2, True), done.stderr
    for seconds in ("inf", "nan"):
        done = reggen("sim", "--port", "0", "--seconds", seconds)
        assert done.returncode == 2, done.stdout
        assert "Traceback" not in done.stderr
        assert "Errno" not in done.stderr


async def test_beside_another_server_one_that_cannot_be_started_is_told_of(job_file: Path, tmp_path: Path) -> None:
    """A run would go on with the other: `check` says so, and exits with 0."""
    async with serve(Settings()) as sim:
        launched = f"{{ url = 'http://127.0.0.1:{unused_port()}', launch = '{tmp_path / 'nothere'}' }}"
        name_servers(job_file, f"{launched}, '{sim.url}'")
        checked = await asyncio.to_thread(reggen, "check", str(job_file))
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "there is no main.py" in checked.stdout
        assert "BLOCKED" not in checked.stdout


def next_words(said: str) -> list[str]:
    """The command that a rejection says is next, as a shell reads it."""
    line = next(line for line in said.splitlines() if line.startswith("  python -m reggen "))
    return shlex.split(line)[3:]


@pytest.mark.skipif(os.name == "nt", reason="shlex reads POSIX shells")
@pytest.mark.parametrize("command", ["reject", "redo"])
def test_the_next_command_makes_just_what_was_rejected(job_file: Path, tmp_path: Path, command: str) -> None:
    """As it is printed: the same folder, quoted for a shell, and a rehearsal where the pictures are of one."""
    odd = job_file.rename(tmp_path / "it's my job.toml")
    text = odd.read_text(encoding="utf-8").replace("count = 40", "count = 6")
    odd.write_text(text, encoding="utf-8")
    root = tmp_path / "made for you"
    assert reggen("run", str(odd), "--rehearse", "--output", str(root)).returncode == 0
    before = {file.name: file.read_bytes() for file in (root / "1_thing").iterdir()}
    done = reggen(command, str(odd), "2", "4-5", "--output", str(root))
    assert done.returncode == 0, done.stderr
    assert "3 set aside in .reggen: reg_002, reg_004, reg_005" in done.stdout
    again = reggen(*next_words(done.stdout))
    assert again.returncode == 0, again.stdout + again.stderr
    after = {file.name: file.read_bytes() for file in (root / "1_thing").iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"reg_002.png", "reg_004.png", "reg_005.png"}


def test_the_class_is_named_where_a_job_has_several(job_file: Path, tmp_path: Path) -> None:
    """Without it, or with another, the command says which there are; with it only that class is touched."""
    make_two_classes(job_file)
    root = tmp_path / "made"
    made = reggen("run", str(job_file), "--rehearse", "--count", "6", "--output", str(root))
    assert made.returncode == 0, made.stdout + made.stderr
    assert made.stdout.count("Next: ") == made.stdout.count("Now: girl") == 1, "what is next is said when all is made"
    for words in ((), ("--class", "cat")):
        refused = reggen("redo", str(job_file), "2", *words, "--output", str(root))
        assert refused.returncode == 2
        assert "--class: is one of boy, girl" in refused.stderr
    done = reggen("redo", str(job_file), "2", "--class", "girl", "--output", str(root))
    assert done.returncode == 0, done.stderr
    assert not (root / "1_girl" / "reg_002.png").exists()
    assert (root / "1_boy" / "reg_002.png").exists()


@needs_signals
@pytest.mark.parametrize("sent", ["SIGINT", "SIGUSR1", "SIGUSR1 SIGUSR1 SIGUSR1"])
async def test_ctrl_c_once_finishes_what_is_in_flight(job_file: Path, sent: str) -> None:
    """Exit 130, nothing left on the server, and the same command does the rest; so does a batch system's warning."""
    job = load(job_file)
    async with serve(Settings(seconds=0.2)) as sim:
        async with running("run", str(job_file), "--server", sim.url) as process:
            await eventually(lambda: len(images(job)) >= 2)
            for name in sent.split():
                process.send_signal(signal.Signals[name])
                await asyncio.sleep(0.02)  # or the system makes one of them
            assert await asyncio.wait_for(process.wait(), 30) == 130
            output = await process.stdout.read() if process.stdout else b""
        assert b"continues where this run stopped" in output
        assert sim.world.remaining == 0
        assert len(images(job)) == sim.count("POST", "/prompt")
        assert_sound(job, complete=False)


@needs_signals
@pytest.mark.parametrize("sent", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)], ids=["twice", "terminated"])
async def test_ctrl_c_twice_leaves_at_once(job_file: Path, sent: tuple[signal.Signals, ...]) -> None:
    """Own prompts are taken out of the queue, other people's stay; everything is resumable."""
    job = load(job_file)
    log = job.dataset.state / "run.log"
    async with serve(Settings(seconds=3.0)) as sim:
        async with running("run", str(job_file), "--server", sim.url) as process:
            await eventually(lambda: sim.count("POST", "/prompt") == 2)
            for number in sent:
                process.send_signal(number)
                await eventually(lambda: "you asked to stop" in log.read_text(encoding="utf-8"))
            assert await asyncio.wait_for(process.wait(), 30) == 130
        await eventually(lambda: sim.world.remaining == 0)
        assert images(job) == []
        assert_sound(job, complete=False)


async def test_sudden_death_at_any_moment_loses_nothing(job_file: Path) -> None:
    """kill -9 several times in mid-run; the next run adopts, refills and completes, and none is made twice."""
    job = load(job_file)
    async with serve(Settings(seconds=0.04)) as sim:
        for done in (5, 12, 25):
            async with running("run", str(job_file), "--server", sim.url) as process:
                await eventually(lambda done=done: len(images(job)) >= done)  # type: ignore[misc]
                process.kill()
                await process.wait()
        final = await asyncio.to_thread(reggen, "run", str(job_file), "--server", sim.url)
        assert final.returncode == 0, final.stdout + final.stderr
        assert_sound(job)
        posted = sim.count("POST", "/prompt")
        assert posted == 40, "what the servers still had was taken over"
        again = await asyncio.to_thread(reggen, "run", str(job_file), "--server", sim.url)
        assert again.returncode == 0
        assert sim.count("POST", "/prompt") == posted


@needs_signals
async def test_a_computer_that_sleeps_in_mid_run_goes_on_when_it_wakes(job_file: Path) -> None:
    """The whole run stands still past every time-out, and its sockets are gone: no image is lost or made twice."""
    job = load(job_file)
    async with serve(Settings(seconds=0.1)) as sim:
        async with running("run", str(job_file), "--count", "20", "--server", sim.url) as process:
            await eventually(lambda: len(images(job)) >= 3)
            process.send_signal(signal.SIGSTOP)
            sim.drop_sockets()
            await eventually(lambda: not sim.world.remaining)
            await asyncio.sleep(4.0)  # longer than the job's time-outs, which is what a sleep is
            process.send_signal(signal.SIGCONT)
            assert await asyncio.wait_for(process.wait(), 60) == 0
        assert_sound(load(job_file, {"dataset": {"count": 20}}))
        assert sim.count("POST", "/prompt") == 20


async def test_two_runs_at_once_are_one_too_many(job_file: Path) -> None:
    """The second says which process holds the dataset, and the first does not notice."""
    async with serve(Settings(seconds=0.01)) as sim:
        answer, over = sim.answer, asyncio.Event()

        async def later(ask: HttpRequest) -> tuple[HttpReply, Fault | None]:
            if ask.path == "/view":
                await over.wait()  # until the second has had its answer the first has something to do
            return await answer(ask)

        sim.answer = later  # type: ignore[method-assign]
        async with running("run", str(job_file), "--count", "15", "--server", sim.url) as first:
            await eventually(lambda: sim.count("POST", "/prompt") >= 2)
            second = await asyncio.to_thread(reggen, "run", str(job_file), "--count", "15", "--server", sim.url)
            assert second.returncode == 2
            assert f"process {first.pid}" in second.stderr
            over.set()
            assert await asyncio.wait_for(first.wait(), 60) == 0
        assert sim.count("POST", "/prompt") == 15


@needs_signals
@pytest.mark.parametrize("after", [0.03, 0.08, 0.15, 0.25, 0.4, 0.6, 0.9])
async def test_ctrl_c_at_any_stage_is_answered_in_the_same_way(job_file: Path, after: float) -> None:
    """While Python loads, before the server is asked, in mid-run: exit 130 and no traceback."""
    async with serve(Settings(seconds=0.1)) as sim:
        async with running("run", str(job_file), "--count", "200", "--server", sim.url) as process:
            await asyncio.sleep(after)  # the moment is the case
            process.send_signal(signal.SIGINT)
            reading = asyncio.create_task(process.stdout.read()) if process.stdout else None
            assert reading is not None
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 30)
            if process.returncode is None:  # Python itself loses an exception that comes inside a callback of an import
                process.kill()
            output = await reading
        if b"Exception ignored in" in output and b"KeyboardInterrupt" in output:
            return
        began = re.search(rb"reggen/__main__\.py\", line \d+, in main", output)
        loading = process.returncode in {-signal.SIGINT, 1} and not began  # Python was still reading the program
        assert process.returncode == 130 or loading, output.decode()
        assert loading or b"Traceback" not in output
        assert sim.world.remaining == 0


async def test_the_stand_in_runs_alone(tmp_path: Path) -> None:
    """`reggen sim` serves on consecutive ports until it is stopped."""
    async with running("sim", "--port", "0", "--seconds", "0.01") as process:
        assert process.stdout is not None
        said = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        url = said.split()[2].rstrip(";")
        result = await asyncio.to_thread(
            reggen, "run", SPYKE, "--count", "2", "--server", url, "--output", str(tmp_path)
        )
        assert result.returncode == 0, result.stderr


@needs_signals
async def test_a_closed_terminal_does_not_end_the_run(job_file: Path) -> None:
    """The connection to the machine broke at three: the images go on, and the log has it all."""
    job = load(job_file)
    async with serve(Settings(seconds=0.1)) as sim:
        inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the suite itself may run under nohup
        async with running("run", str(job_file), "--count", "12", "--server", sim.url) as process:
            signal.signal(signal.SIGHUP, inherited)
            await eventually(lambda: len(images(job)) >= 2)
            process.send_signal(signal.SIGHUP)
            assert await asyncio.wait_for(process.wait(), 30) == 0
        assert "the terminal was closed" in (job.dataset.state / "run.log").read_text(encoding="utf-8")
        assert len(images(job)) == 12


@needs_signals
async def test_under_nohup_a_closed_terminal_is_not_even_noticed(job_file: Path) -> None:
    """A hangup that is ignored stays ignored, by a run of several classes too: its words still go where they went."""
    make_two_classes(job_file)
    job = load(job_file)
    async with serve(Settings(seconds=0.1)) as sim:
        words = f"{sys.executable} -m reggen run {job_file} --count 12 --server {sim.url}"
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", f'trap "" HUP; exec {words}', stdout=asyncio.subprocess.PIPE
        )
        for folder in ("1_boy", "1_girl"):
            made = job.dataset.root / folder
            await eventually(lambda made=made: len([*made.glob("*.png")]) >= 2)  # type: ignore[misc]
            process.send_signal(signal.SIGHUP)
        said, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0
        assert said.count(b"Complete: 6 of 6") == 2
        assert b"the terminal was closed" not in said


async def test_time_that_is_up_has_an_exit_code_of_its_own(job_file: Path) -> None:
    """Whoever requeues what is not done can tell it from what failed; report.json says the same."""
    job = load(job_file)
    async with serve(Settings(seconds=0.3)) as sim:
        words = ("run", str(job_file), "--server", sim.url, "--for", "2s")
        result = await asyncio.to_thread(reggen, *words)
    assert result.returncode == 3, result.stdout + result.stderr
    assert "the time is up" in result.stdout
    assert json.loads((job.dataset.state / "report.json").read_text(encoding="utf-8"))["exit_code"] == 3


@needs_signals
@pytest.mark.parametrize("reader", ["head -n 2", "true"])
async def test_a_reader_that_goes_away_does_not_end_the_run(job_file: Path, reader: str) -> None:
    """`| head`, a pager that was quit: the images go on, and the exit is the truth."""
    job = load(job_file)
    async with serve(Settings(seconds=0.02)) as sim:
        words = f"{sys.executable} -m reggen run {job_file} --count 12 --server {sim.url}"
        script = f"set -o pipefail; {words} | {reader}"
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, errors.decode()
        assert len(images(job)) == 12
        assert b"Traceback" not in errors


def test_the_version_is_printed() -> None:
    """For people who write an issue."""
    result = reggen("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("reggen 0.")
