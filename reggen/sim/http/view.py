"""/view: the file that a query means, and the answer with its bytes. No I/O.

Files are painted elsewhere: `locate` finds one, `serve` makes the answer from its bytes.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from email.utils import formatdate

from reggen.sim.http.reply import HttpReply
from reggen.sim.state.disk import FOLDERS, Disk, File

_ANNOTATED = re.compile(r"(.*) \[(output|input|temp)\]$", re.DOTALL)
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


def locate(disk: Disk, query: Mapping[str, str]) -> File | int:
    """The requested file, or the HTTP status that refuses it."""
    if "filename" not in query:
        return 404
    name, folder = query["filename"], query.get("type", "output")
    if annotated := _ANNOTATED.match(name):
        name, folder = annotated.groups()
    if not name or name.startswith("/") or ".." in name or folder not in FOLDERS:
        return 400
    subfolder = posixpath.normpath(query.get("subfolder") or ".")
    if subfolder.startswith(("/", "..")):
        return 403
    return disk.find(folder, subfolder, posixpath.basename(name)) or 404


def serve(file: File, body: bytes, headers: Mapping[str, str]) -> HttpReply:
    """The answer for a whole file, a range of it, or a copy the client already has."""
    etag = f'"{int(file.saved_at * 1e9):x}-{len(body):x}"'
    said = {
        "Content-Disposition": f'filename="{file.name}"',
        "ETag": etag,
        "Last-Modified": formatdate(file.saved_at, usegmt=True),
        "Accept-Ranges": "bytes",
    }
    if headers.get("if-none-match") == etag:
        return HttpReply(304, b"", "", said)
    asked = _RANGE.match(headers.get("range", ""))
    if asked is None or asked.groups() == ("", ""):
        return HttpReply(200, body, "image/png", said)
    start, end = _span(asked[1], asked[2], len(body))
    if start >= len(body) or end < start:
        return HttpReply(416, b"", "", {**said, "Content-Range": f"bytes */{len(body)}"})
    said["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
    return HttpReply(206, body[start : end + 1], "image/png", said)


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1
