"""The workflow file of a job: API-format JSON, or a PNG made by ComfyUI that carries its graph. Blocking."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from reggen.errors import Problem, WorkflowError
from reggen.files import MIB, opened, text_of
from reggen.workflow.graph import Graph

_LARGEST = 64 * MIB
_EXPORT = "in ComfyUI: Workflow > Export (API)"


def read_graph(file: Path) -> Graph:
    """An API-format graph from a JSON file or from a PNG that ComfyUI made. Raises WorkflowError."""
    try:
        text = _png_prompt(file) if file.suffix.lower() == ".png" else text_of(file, _LARGEST)
        document = json.loads(text)
    except FileNotFoundError:
        raise _unusable(file, "there is no such file") from None
    except UnidentifiedImageError:
        raise _unusable(file, "it is not a PNG, although its name ends with .png") from None
    except OSError as error:
        raise _unusable(file, f"it cannot be read: {error.strerror or error}") from None
    except RecursionError:
        raise _unusable(file, "it is nested too deeply") from None
    except ValueError as error:
        raise _unusable(file, f"it is not JSON: {error}") from None
    except (SyntaxError, ArithmeticError, LookupError, struct.error, Image.DecompressionBombError) as error:
        raise _unusable(file, f"it is damaged: {error}") from None
    if isinstance(document, dict) and isinstance(document.get("prompt"), dict):
        document = document["prompt"]  # a body as it is posted
    if isinstance(document, dict) and "nodes" in document and "links" in document:
        raise _unusable(file, "it is a workflow as ComfyUI's page saves it", _EXPORT)
    if not isinstance(document, dict) or not document:
        raise _unusable(file, "it is not a ComfyUI graph in API format", _EXPORT)
    _demand_nodes(file, document)
    return document


def _demand_nodes(file: Path, document: dict[str, Any]) -> None:
    for node_id, node in document.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            raise _unusable(file, f"node {node_id} has no class_type", _EXPORT)
        if not isinstance(node.setdefault("inputs", {}), dict):  # ComfyUI's worker dies of a node without
            raise _unusable(file, f"the inputs of node {node_id} are not a table", _EXPORT)


def _png_prompt(file: Path) -> str:
    if not file.is_file():
        raise _unusable(file, "there is no such file")
    with opened(file) as stream, Image.open(stream, formats=["PNG"]) as image:
        text = image.info.get("prompt")
    if not isinstance(text, str):
        raise _unusable(file, "this picture carries no ComfyUI graph", "use one that ComfyUI saved itself, unchanged")
    return text


def _unusable(file: Path, problem: str, hint: str = "") -> WorkflowError:
    return WorkflowError(str(file), (Problem("", problem, hint),))
