"""The settings of a ComfyUI process, and the command line that follows from them."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from reggen.backoff import Backoff

_WINDOWS = os.name == "nt"
_PORTABLE = "python_embeded"  # ComfyUI's own spelling
_HTTP_PORT = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchTimings:
    """Pauses and limits of a process, in seconds."""

    ready: float = 300.0
    """From a start until the server must answer."""
    end: float = 10.0
    """From the request to end until the process is killed."""
    restart: Backoff = Backoff(1.0, 60.0)
    """Before restarts; the ceiling of the jitter."""
    hour: float = 3600.0
    """The time in which restarts are counted."""
    glance: float = 0.1
    """Between two looks at the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSettings:
    """The process to start, and its limits. Raises ValueError for an address that it cannot serve."""

    folder: Path
    """The folder with ComfyUI's main.py."""
    url: str
    """The address to serve: http, on this machine, with nothing after the port."""
    python: Path | None = None
    """None: see `pick_python`."""
    arguments: tuple[str, ...] = ()
    """For main.py, before reggen's own: of two equal ones the last counts."""
    device: int | None = None
    """The GPU, for --cuda-device."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with the requests that find out if it is ready."""
    log: Path
    """The file for everything that the process prints, start after start."""
    log_limit: int = 16 << 20
    """Bytes; a longer log is renamed to NAME.1, over the one before. On Windows only at a start."""
    restarts_per_hour: int = 6
    memory_limit: int | None = None
    """Bytes in RAM; beyond them it `is_too_big`."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "http" or parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError(f"{self.url!r} is not an address to start ComfyUI at, such as http://127.0.0.1:8188")
        if not _is_loopback(parts.hostname or ""):
            raise ValueError(f"{self.url!r} is not on this machine; ComfyUI can only be started at 127.0.0.1")
        if self.port == 0 or self.restarts_per_hour < 0:
            raise ValueError("the port must not be 0, and restarts_per_hour not negative")

    @property
    def host(self) -> str:
        """The address to listen on."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port to listen on."""
        port = urlsplit(self.url).port
        return _HTTP_PORT if port is None else port

    @property
    def name(self) -> str:
        """The address without its scheme, for people to read."""
        return self.url.split("://", 1)[1].rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_comfyui(folder: Path) -> bool:
    """Tell a ComfyUI folder by its main.py."""
    return (folder / "main.py").is_file()


def pick_python(settings: LaunchSettings, *, windows: bool = _WINDOWS) -> Path:
    """The python to run ComfyUI with.

    The job's own; or that of a venv in ComfyUI's folder, or of the portable version beside it; or reggen's own.
    """
    if settings.python is not None:
        return settings.python
    inside = Path("Scripts", "python.exe") if windows else Path("bin", "python")
    places = [settings.folder / name / inside for name in ("venv", ".venv")]
    if windows:
        places.append(settings.folder.parent / _PORTABLE / "python.exe")
    return next((place for place in places if place.is_file()), Path(sys.executable))


def command(settings: LaunchSettings, python: Path) -> list[str]:
    """The command line. Its output is not buffered, so that the log has the last words of a process that crashed."""
    words = [str(python), "-u"]
    if python.parent.name == _PORTABLE:
        words += ["-s", "-X", "utf8"]  # it reads no environment; a log in the system's code page chokes on an emoji
    words += [str(settings.folder.absolute() / "main.py"), *settings.arguments]
    if not any(word.split("=", 1)[0] == "--listen" for word in settings.arguments):
        words += ["--listen", settings.host]
    words += ["--port", str(settings.port)]
    return words if settings.device is None else [*words, "--cuda-device", str(settings.device)]


def longest_pause(restarts: Sequence[float], now: float, cap: int, timings: LaunchTimings) -> float | None:
    """The longest pause before the next restart, given the times of earlier ones; None when ``cap`` is reached."""
    recent = sum(now - at < timings.hour for at in restarts)
    return None if recent >= cap else timings.restart.ceiling(recent + 1)
