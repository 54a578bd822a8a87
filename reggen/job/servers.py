"""Addresses in a job file: ComfyUI servers, and the receivers of notices; secrets come from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from reggen.job.section import ExpandedPath, Section

DEFAULT_URL = "http://127.0.0.1:8188"
_LAST_PORT = 65_535
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Server(Section):
    """One ComfyUI server."""

    url: str = Field(DEFAULT_URL, description="http://host:port, as in the browser.")
    depth: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Prompts in flight. Left out: one that runs and one that waits, more of prompts under 50 ms.",
    )
    launch: ExpandedPath | None = Field(
        None, description="A ComfyUI folder: reggen starts it there, keeps it up, and ends it."
    )
    python: ExpandedPath | None = Field(
        None, description="For launch: the python to run it with; its own venv's by default."
    )
    arguments: tuple[str, ...] = Field((), description="For launch: more arguments for main.py.")
    gpus: tuple[Annotated[int, Field(ge=0, le=1_023)], ...] = Field(
        (), description="For launch: one ComfyUI for each, on consecutive ports."
    )
    memory_gib: float | None = Field(
        None, gt=0, le=1_000_000, description="For launch: restarted when it holds more memory."
    )
    keep_history: bool = Field(False, description="Leave finished prompts in ComfyUI's history, as its queue shows it.")
    free_every: int | None = Field(None, ge=1, description="Images after which it is asked to free its memory.")
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Sent with every request; ${NAME} is taken from the environment."
    )
    certificate: ExpandedPath | None = Field(
        None, description="For https: a PEM file with the only certificate that the server may show, whatever its name."
    )

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if found := re.search(r"\$\{?\w+\}?|%\w+%", url):
            raise ValueError(
                f"{found[0]} is not filled in here, only in headers and notify.urls; write the address itself, or give "
                f'it on the command line: --server "http://{found[0]}:8188"'
            )
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise ValueError("credentials do not belong in the URL; use headers with ${NAME}")
        if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"\s", url) or not _has_port(parts):
            remedy = (
                f"write http://{url}" if re.fullmatch(r"[\w.-]+(:\d+)?/?", url) else f"write one such as {DEFAULT_URL}"
            )
            raise ValueError(f"{url!r} is not an address; {remedy}")
        try:
            parts.hostname.encode("idna")
        except UnicodeError:
            raise ValueError(f"{parts.hostname!r} is not a valid host name") from None
        if parts.query:
            raise ValueError(
                "it must end before the ?; send a token as a header: "
                'headers = { Authorization = "Bearer ${TOKEN}" }, or under the name that the server reads'
            )
        if parts.fragment:
            raise ValueError("it must end before the #")
        return url.rstrip("/")

    @field_validator("arguments")
    @classmethod
    def _have_no_null(cls, arguments: tuple[str, ...]) -> tuple[str, ...]:
        if any("\0" in argument for argument in arguments):
            raise ValueError("one has a null character, which cannot be passed to a program")
        return arguments

    @model_validator(mode="after")
    def _can_be_launched(self) -> Self:
        needing = [name for name in ("python", "arguments", "gpus", "memory_gib") if getattr(self, name)]
        if needing and not self.launch:
            raise ValueError(f"{needing[0]} needs launch, the folder of the ComfyUI to start")
        parts = urlsplit(self.url)
        if self.certificate and parts.scheme != "https":
            raise ValueError("certificate needs a url that begins with https://")
        if self.launch and (parts.hostname not in {"127.0.0.1", "localhost", "::1"} or not parts.port):
            raise ValueError(f"launch starts ComfyUI on this machine: give it a url such as {DEFAULT_URL}")
        if len(self.gpus) > 1 and (parts.port or 0) + len(self.gpus) - 1 > _LAST_PORT:
            raise ValueError(f"{len(self.gpus)} GPUs from port {parts.port} on go beyond the last port, {_LAST_PORT}")
        return self

    def one_for_each_gpu(self) -> list[Server]:
        """The server itself, or with several GPUs a server for each, on consecutive ports."""
        if len(self.gpus) < 2:
            return [self]
        head, _, port = self.url.rpartition(":")
        urls = [f"{head}:{int(port) + number}" for number in range(len(self.gpus))]
        return [self.model_copy(update={"url": url, "gpus": (gpu,)}) for url, gpu in zip(urls, self.gpus, strict=True)]

    @property
    def name(self) -> str:
        """The address without its scheme, for people to read."""
        return self.url.split("://", 1)[1]

    @property
    def netloc(self) -> str:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.netloc if parts.port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"

    def resolved_headers(self, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        """The headers with every ``${NAME}`` replaced. Raises KeyError(NAME) for one that is not set."""
        return {key: _with_environment(value, environ).strip() for key, value in self.headers.items()}


class Notify(Section):
    """Receivers of notices through Apprise: when the run is over, stuck or out of room."""

    urls: tuple[SecretStr, ...] = Field(
        (), description="Apprise addresses such as ntfy://topic; ${NAME} is taken from the environment."
    )

    def resolved(self, environ: Mapping[str, str] = os.environ) -> list[str | KeyError]:
        """The addresses with every ``${NAME}`` replaced, or the KeyError of the one that is not set."""
        found: list[str | KeyError] = []
        for url in self.urls:
            try:
                found.append(_with_environment(url, environ))
            except KeyError as error:
                found.append(error)
        return found


def _has_port(parts: SplitResult) -> bool:
    """False for a port that is no number from 1 to 65,535; none at all is the scheme's own."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def _with_environment(secret: SecretStr, environ: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: environ[match.group(1)], secret.get_secret_value())
