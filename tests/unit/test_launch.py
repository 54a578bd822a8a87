"""A launch on paper: the words to run, the python that runs them, the pauses between restarts."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from reggen.errors import NO_SERVER, ReggenError
from reggen.launch.comfy_process import LaunchError, ending
from reggen.launch.settings import LaunchSettings, LaunchTimings, command, longest_pause, pick_python

PYTHON = Path("/opt/venv/bin/python")


def launch(folder: Path = Path("/opt/ComfyUI"), **changes: object) -> LaunchSettings:
    known = {"folder": folder, "url": "http://127.0.0.1:8188", "log": Path("/var/log/comfy.log")}
    return LaunchSettings(**{**known, **changes})  # type: ignore[arg-type]


def placed(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.touch()
    return path


# ---- the command


def test_the_address_of_the_server_becomes_listen_and_port() -> None:
    """Main.py by its whole path, since it runs in its own folder."""
    folder = Path("/opt/ComfyUI").absolute()
    words = command(launch(), PYTHON)
    assert words == [str(PYTHON), "-u", str(folder / "main.py"), "--listen", "127.0.0.1", "--port", "8188"]


def test_one_process_for_each_gpu() -> None:
    """GPU 0 is one too, and not the absence of one."""
    assert command(launch(device=0), PYTHON)[-2:] == ["--cuda-device", "0"]
    assert "--cuda-device" not in command(launch(), PYTHON)


def test_the_job_s_arguments_come_before_ours() -> None:
    """So that a port among them cannot lead the server away from where it is expected."""
    words = command(launch(arguments=("--port", "9000", "--lowvram")), PYTHON)
    assert words[3:6] == ["--port", "9000", "--lowvram"]
    assert words[-2:] == ["--port", "8188"]


@pytest.mark.parametrize("listen", [("--listen",), ("--listen", "0.0.0.0"), ("--listen=0.0.0.0",)])
def test_a_job_may_let_others_in(listen: tuple[str, ...]) -> None:
    """A --listen of the job's own is kept: somebody wants to see the queue from the sofa."""
    words = command(launch(arguments=listen), PYTHON)
    assert sum(word.startswith("--listen") for word in words) == 1


def test_an_ipv6_address_is_listened_on_without_brackets() -> None:
    """As the system writes it."""
    assert "::1" in command(launch(url="http://[::1]:8188"), PYTHON)


def test_the_portable_s_python_is_run_as_its_own_script_runs_it() -> None:
    """Without the user's packages, and in UTF-8: it reads no environment variables."""
    words = command(launch(), Path("/ComfyUI_windows_portable/python_embeded/python.exe"))
    assert words[1:5] == ["-u", "-s", "-X", "utf8"]


# ---- the address


@pytest.mark.parametrize("url", ["http://127.0.0.1:8188", "http://localhost:80/", "http://127.9.9.9", "http://[::1]:1"])
def test_a_server_is_started_on_this_machine(url: str) -> None:
    """Every name that it has for itself."""
    assert launch(url=url).name in url


@pytest.mark.parametrize(
    "url",
    [
        "http://192.168.1.7:8188",
        "http://example.org:8188",
        "https://127.0.0.1:8188",
        "http://127.0.0.1:8188/comfy",
        "http://me:secret@127.0.0.1:8188",
        "http://127.0.0.1:0",
        "http://:8188",
        "127.0.0.1:8188",
    ],
)
def test_and_nowhere_else(url: str) -> None:
    """Nor behind a path or TLS, which main.py does not serve at that address."""
    with pytest.raises(ValueError, match=r"127\.0\.0\.1|port"):
        launch(url=url)


def test_an_address_without_a_port_has_http_s_own() -> None:
    """As the client that talks to it reads it."""
    assert launch(url="http://127.0.0.1").port == 80


# ---- the python


def test_the_job_s_own_python_goes_before_all(tmp_path: Path) -> None:
    """Even beside a venv."""
    placed(tmp_path / "venv" / "bin" / "python")
    assert pick_python(launch(tmp_path, python=PYTHON), windows=False) == PYTHON


@pytest.mark.parametrize("name", ["venv", ".venv"])
@pytest.mark.parametrize(("windows", "inside"), [(False, "bin/python"), (True, "Scripts/python.exe")])
def test_a_venv_in_the_folder_is_found(tmp_path: Path, name: str, windows: bool, inside: str) -> None:
    """Both of the names that people give it."""
    python = placed(tmp_path / name / inside)
    assert pick_python(launch(tmp_path), windows=windows) == python


def test_the_portable_s_python_lies_beside_the_folder(tmp_path: Path) -> None:
    """Only on Windows, where alone it runs."""
    python = placed(tmp_path / "python_embeded" / "python.exe")
    folder = tmp_path / "ComfyUI"
    assert pick_python(launch(folder), windows=True) == python
    assert pick_python(launch(folder), windows=False) == Path(sys.executable)


def test_without_any_it_is_reggen_s_own_python(tmp_path: Path) -> None:
    """ComfyUI may be installed in the same environment."""
    assert pick_python(launch(tmp_path)) == Path(sys.executable)


# ---- the restarts


def test_the_pause_before_a_restart_grows_with_those_of_the_last_hour() -> None:
    """From a second to a minute; drawn from with full jitter."""
    assert [longest_pause([0.0] * times, 1.0, 99, LaunchTimings()) for times in range(8)] == [
        1,
        2,
        4,
        8,
        16,
        32,
        60,
        60,
    ]


def test_an_hour_has_its_cap() -> None:
    """No more after it, and more when the first is an hour old."""
    assert longest_pause([0.0, 10.0], 3599.9, 2, LaunchTimings()) is None
    assert longest_pause([0.0, 10.0], 3600.0, 2, LaunchTimings()) == 2.0


def test_a_cap_of_none_is_none() -> None:
    """A process that may not be restarted is not."""
    assert longest_pause([], 0.0, 0, LaunchTimings()) is None


# ---- the words


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exited with status 0"), (3, "exited with status 3"), (-15, "was ended by SIGTERM"), (-99, "signal 99")],
)
def test_the_end_of_a_process_in_words(code: int, words: str) -> None:
    """By its name where the system has one."""
    assert words in ending(code)


def test_the_error_is_a_sentence_and_keeps_its_facts() -> None:
    """It says what was being done, where, what happened, what to do, and quotes the log; also after a pickle."""
    error = LaunchError(
        "/opt/ComfyUI", "starting ComfyUI", "it exited", "Look", "The last lines of a.log:\n  | no torch"
    )
    assert str(error) == ("starting ComfyUI in /opt/ComfyUI: it exited. Look. The last lines of a.log:\n  | no torch")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.folder, again.doing, again.what) == (str(error), error.folder, error.doing, error.what)
    assert isinstance(error, ReggenError)
    assert error.exit_code == NO_SERVER


def test_an_error_without_a_remedy_ends_after_what_happened() -> None:
    """No empty parts."""
    assert str(LaunchError("/a", "starting ComfyUI", "it was stopped")) == "starting ComfyUI in /a: it was stopped"
