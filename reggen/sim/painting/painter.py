"""Painting on demand, in a thread: files for /view and pictures for the socket."""

from __future__ import annotations

import asyncio

from reggen.sim.http import view
from reggen.sim.http.reply import HttpReply, HttpRequest
from reggen.sim.painting.paint import paint_file, paint_preview, reencode
from reggen.sim.state.disk import File
from reggen.sim.state.model import PictureFrame


async def answer_view(file: File, request: HttpRequest) -> HttpReply:
    """The bytes of a file as the query wants them."""
    body = await asyncio.to_thread(paint_file, file.picture, file.text)
    form, _, quality = request.query.get("preview", "").partition(";")
    channel = request.query.get("channel", "rgba")
    if not form and channel == "rgba":
        return view.serve(file, body, request.headers)
    form = form if form in ("webp", "jpeg") else "webp" if form else "png"
    level = int(quality) if quality.isdecimal() else 90
    body = await asyncio.to_thread(reencode, body, form, level, channel)
    return HttpReply(200, body, f"image/{form}", {"Content-Disposition": f'filename="{file.name}"'})


async def draw(shown: PictureFrame) -> bytes:
    """The image in a binary frame: a JPEG of the unfinished picture, or the whole as PNG."""
    picture = shown.picture
    if shown.whole:
        return await asyncio.to_thread(paint_file, picture, ())
    return await asyncio.to_thread(paint_preview, picture.seed, picture.width, picture.height, shown.share)
