"""Read the workflow file of a job, in every form that people have one. Blocking.

JSON in API format, bare or wrapped as services want it; JSON as ComfyUI's page saves it; a PNG, WebP or JPEG that
carries either. The page's format is converted with the node classes of a server, which ``ask`` gives.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from reggen.errors import Problem, WorkflowError
from reggen.files import MIB, opened, text_of
from reggen.wording import first_few
from reggen.workflow.graph import Graph
from reggen.workflow.page_format import EXPORT, ObjectInfo, PageError, classes_of, from_page, is_page_format

AskClasses = Callable[[Collection[str]], ObjectInfo]
"""Gives the node classes of those names that a server has. Raises WorkflowError where no server can be asked."""

_LARGEST = 64 * MIB
_PICTURES = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG"}
_WRAPPERS = (("prompt",), ("input", "workflow"), ("workflow_api",), ("input", "prompt"), ("workflow",), ("output",))
_UNCHANGED = "use one that ComfyUI saved itself, unchanged"


def read_graph(file: Path, ask: AskClasses | None = None) -> Graph:
    """The graph of a workflow file in API format. Raises WorkflowError, which says what the file holds instead."""
    document = _unwrapped(_document(file))
    if is_page_format(document):
        return _converted(file, document, ask)
    if not isinstance(document, dict) or not document:
        raise _unusable(file, f"it is not a ComfyUI graph in API format: it holds {_held(document)}", EXPORT)
    graph = {name: node for name, node in document.items() if not _is_comment(name, node)}
    _demand_nodes(file, graph)
    return graph


def _document(file: Path) -> Any:
    try:
        kind = _PICTURES.get(file.suffix.lower())
        return json.loads(_carried(file, kind) if kind else text_of(file, _LARGEST))
    except FileNotFoundError:
        raise _unusable(file, "there is no such file") from None
    except UnidentifiedImageError:
        raise _unusable(file, f"it is not a {kind}, although its name ends with {file.suffix}") from None
    except OSError as error:
        raise _unusable(file, f"it cannot be read: {error.strerror or error}") from None
    except RecursionError:
        raise _unusable(file, "it is nested too deeply") from None
    except ValueError as error:
        raise _unusable(file, f"it is not JSON: {error}") from None
    except (SyntaxError, ArithmeticError, LookupError, struct.error, Image.DecompressionBombError) as error:
        raise _unusable(file, f"it is damaged: {error}") from None


def _carried(file: Path, kind: str) -> str:
    """The JSON text that a picture carries: its graph, or the page's workflow where there is no graph."""
    if not file.is_file():
        raise _unusable(file, "there is no such file")
    with opened(file) as stream, Image.open(stream, formats=[kind]) as image:
        texts = {name: text for name in ("prompt", "workflow") if isinstance(text := image.info.get(name), str)}
        for value in image.getexif().values():  # WebP and JPEG: "prompt:{...}" in Make, "workflow:{...}" in Model
            name, colon, text = value.partition(":") if isinstance(value, str) else ("", "", "")
            if colon and name.lower() in {"prompt", "workflow"}:
                texts.setdefault(name.lower(), text)
    found = texts.get("prompt") or texts.get("workflow")
    if not found:
        raise _unusable(file, "this picture carries no ComfyUI graph", _UNCHANGED)
    return found.rstrip("\0")


def _unwrapped(document: Any) -> Any:
    """The graph or the page's workflow inside a body as it is posted, or as a service wants it."""
    for path in _WRAPPERS:
        inner = document
        for key in path:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and (is_page_format(inner) or _has_nodes(inner)):
            return inner
    return document


def _has_nodes(document: Mapping[str, Any]) -> bool:
    return any(isinstance(node, dict) and "class_type" in node for node in document.values())


def _is_comment(name: str, node: Any) -> bool:
    """A key beside the nodes, as people and some programs add them."""
    return name.startswith("_") or not isinstance(node, dict | list)


def _demand_nodes(file: Path, document: dict[str, Any]) -> None:
    if not document:
        raise _unusable(file, "it holds no node", EXPORT)
    for node_id, node in document.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            raise _unusable(file, f"node {node_id} has no class_type", EXPORT)
        if not isinstance(node.setdefault("inputs", {}), dict):  # ComfyUI's worker dies of a node without
            raise _unusable(file, f"the inputs of node {node_id} are not a table", EXPORT)


def _converted(file: Path, document: Mapping[str, Any], ask: AskClasses | None) -> Graph:
    if ask is None:
        raise _unusable(file, "it is a workflow as ComfyUI's page saves it, and no server is named", EXPORT)
    try:
        return from_page(document, ask(classes_of(document)))
    except PageError as error:
        raise WorkflowError(str(file), (error.problem,)) from None
    except (TypeError, ValueError, KeyError, LookupError, AttributeError) as error:
        what = f"it looks like a workflow as ComfyUI's page saves it, and is damaged ({type(error).__name__}: {error})"
        raise _unusable(file, what, EXPORT) from None


def _held(document: Any) -> str:
    if isinstance(document, dict):
        return f"a table with {first_few([repr(key) for key in document], 5)}" if document else "an empty table"
    return {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}.get(type(document), "a number")


def _unusable(file: Path, problem: str, hint: str = "") -> WorkflowError:
    return WorkflowError(str(file), (Problem("", problem, hint),))
