"""Short descriptions of answers that are not what was asked for, and of broken connections. Pure: no I/O."""

from __future__ import annotations

import html
import re
import ssl
from urllib.parse import urljoin, urlsplit

from reggen.comfy import tls
from reggen.comfy.sanitize import LINE, cleaned

_PAGE_HEAD = 20_000  # characters of a page within which its title is looked for
_LONGEST_TITLE = 80
_FIRST_TAGS = ("<!doctype html", "<html", "<head", "<body", "<title", "<h1", "<center")
_TAG = re.compile(r"<[^<>]*>")


def is_page(text: str, content_type: str = "") -> bool:
    """Tell a web page by its type or its first tag."""
    if content_type in {"text/html", "application/xhtml+xml"}:
        return True
    start = text[:_PAGE_HEAD].lstrip("\ufeff \t\r\n").lower()
    while start.startswith(("<!--", "<?xml")):
        start = start.partition(">")[2].lstrip()
    return start.startswith(_FIRST_TAGS)


def page(text: str) -> str:
    """A web page by its title or its first heading: `a web page ("Sign in")`."""
    for tag in ("title", "h1"):
        if title := excerpt(html.unescape(_TAG.sub(" ", _within(tag, text[:_PAGE_HEAD]))), _LONGEST_TITLE):
            return f'a web page ("{title}")'
    return "a web page without a title"


def _within(tag: str, text: str) -> str:
    """The text of the first element of this kind."""
    lowered = text.lower()
    start = lowered.find(f"<{tag}")
    inside = lowered.find(">", start) + 1
    end = lowered.find(f"</{tag}", inside)
    return text[inside:end] if start >= 0 and inside and end >= 0 else ""


def summary(text: str, content_type: str = "") -> str:
    """The body of an answer in a few words on one line; "" when it is empty."""
    if not text.strip():
        return ""
    return page(text) if is_page(text, content_type) else excerpt(text)


def redirect(url: str, route: str, location: str) -> str:
    """A redirect of a route below a server's url: the new address to write in the job, or where it leads."""
    try:
        parts = urlsplit(urljoin(url + route, location))
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return f"it redirects to {excerpt(location)!r}, which is not an address"
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if scheme not in {"http", "https"} or not host:
        return f"it redirects to {excerpt(location)!r}, which is not an address"
    address = f"{scheme}://{host}{port}{parts.path}"
    if parts.path.endswith(route) and (base := address.removesuffix(route)) != url:
        return f'it has moved: write its new address, url = "{excerpt(base)}"'
    return f"it redirects to {excerpt(address)} instead of answering: a login, or something else in front of ComfyUI"


def connection_error(error: BaseException) -> str:
    """The reason why a connection failed, in the words of the operating system where it has any."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return tls.reason(error)
    if isinstance(error, ConnectionRefusedError) or "refused" in str(error).lower():
        return "connection refused (is ComfyUI running there?)"
    text = excerpt(str(getattr(error, "strerror", None) or error))
    return text or type(error).__name__


def excerpt(text: str, most: int = LINE) -> str:
    """The beginning of a text, on one line."""
    flat = " ".join(cleaned(text[: 10 * most]).split())
    return flat if len(flat) <= most and len(text) <= 10 * most else flat[: most - 1] + "…"
