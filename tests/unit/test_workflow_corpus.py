"""Public workflows and patterns of node packs: for each graph what is set, asked and told, exactly.

The readings stand in tests/fixtures/workflows/readings.txt. ``python -m tests.unit.test_workflow_corpus`` prints the
numbers; with ``--write`` it writes the readings again, to be read by eye.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from reggen.errors import WorkflowError
from reggen.prepare.workflow_file import read_graph
from reggen.workflow.graph import Graph
from reggen.workflow.reader import Reading, read_workflow
from tests.workflow_patterns import PATTERNS

FIXTURES = Path(__file__).parents[1] / "fixtures" / "workflows"
READINGS = FIXTURES / "readings.txt"
DOCS = Path(__file__).parents[2] / "docs" / "workflows.md"
WANTED = ("positive", "negative", "seed", "width", "height")
SETTINGS = ("steps", "cfg", "guidance", "sampler", "scheduler", "checkpoint", "batch")
FILES = {file.stem: file for file in sorted(FIXTURES.iterdir()) if file != READINGS and file.stem != "ui_only"}
DEAD = {  # texts and seeds that a server does not execute, found by eye
    "switch by any": {"28.value"},
    "text switch of CR": {"26.text1"},
    "switch of conditionings": {"21.text"},
    "image_krea2_turbo_t2i": {"30:27.string_b"},
    "image_qwen_Image_2512": {"238:221.lora_name"},  # the name of a file
}
REASONS = {  # why a graph is asked about: several texts, or none, or no size to set
    "06_concat_core", "07_concat_was", "11_two_savers", "12a_image_saver", "13_websocket", "39_conditioning_combine",
    "46_img2img", "image_ernie_image", "image_krea2_turbo_t2i", "styler for both sides", "text from a file",
    "text from a picture's metadata", "text of a vision model", "language model with an instruction", "text function",
    "joined strings of KJ", "averaged conditionings", "timed conditionings", "GLIGEN box",
    "two conditions of one guider", "inpainting",
}  # fmt: skip


def graphs() -> Iterator[tuple[str, Graph]]:
    yield from ((name, read_graph(file)) for name, file in FILES.items())
    yield from PATTERNS.items()


NAMES = [*FILES, *PATTERNS]


def graph_of(name: str) -> Graph:
    return PATTERNS[name] if name in PATTERNS else read_graph(FILES[name])


def read(graph: Graph) -> Reading:
    return read_workflow(graph, {}, WANTED)


def lines_of(reading: Reading) -> Iterator[str]:
    """A reading as its lines in readings.txt."""
    for name in (*WANTED, *SETTINGS):
        if bound := reading.bindings.get(name):
            yield f"set {name} {' '.join(map(str, bound))}"
    for problem in reading.problems:
        offers = re.findall(r'= (\[.*?\]|"[^"]*"|\'[^\']*\')', problem.hint)
        yield f"ask {problem.key.rpartition('.')[2]} {' | '.join(offers)}".rstrip()
    account = reading.account
    for sent in account.also_sent:
        yield f"sent {sent.binding}{' (negative)' if sent.negative else ''} {sent.text!r}"
    yield from (f"fixed seed {one}" for one in account.fixed_seeds)
    yield from (f"scaled by {one} {how}".rstrip() for one, how in account.scaled_by)
    yield from (f"also saved by {one}" for one in account.also_saved_by)
    yield from (f"batch times {one} {how}".rstrip() for one, how in account.multiplied_by)
    yield from (f"input image {one}" for one in account.input_images)
    if account.negative != "text":
        yield f"negative {account.negative}"


def expected() -> dict[str, list[str]]:
    """The readings by graph, each line without its indent."""
    found: dict[str, list[str]] = {}
    for block in READINGS.read_text("utf-8").strip().split("\n\n"):
        name, *lines = block.splitlines()
        found[name] = [line.strip() for line in lines]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_each_graph_is_read_as_it_was_judged(name: str) -> None:
    """Its bindings, its questions with every offer, and its account are exactly the known ones."""
    assert list(lines_of(read(graph_of(name)))) == expected()[name]


def test_no_reading_is_of_a_graph_that_is_gone() -> None:
    """readings.txt and the graphs name the same."""
    assert sorted(expected()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_silently_wrong(name: str) -> None:
    """Every text, seed and first size that reaches the output is set, asked about or told."""
    assert silently_wrong(name, graph_of(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_question_is_asked_where_nobody_can_know_the_answer(name: str) -> None:
    """The graphs with questions are those in which several texts, savers, or no size at all are found."""
    assert bool(read(graph_of(name)).problems) == (name in REASONS)


def test_a_picture_with_the_page_s_workflow_alone_says_so() -> None:
    """Without a server it cannot be converted."""
    with pytest.raises(WorkflowError, match="as ComfyUI's page saves it, and no server is named"):
        read_graph(FIXTURES / "ui_only.png")


def test_the_documents_have_these_numbers() -> None:
    """docs/workflows.md says how many graphs are read, and how."""
    assert numbers() in DOCS.read_text("utf-8")


# ---- a plain view of a graph, without the reader's knowledge


def reached(graph: Graph, output: str, written: set[str]) -> Iterator[str]:
    """The nodes above the output, but for those behind an input that is set."""
    seen = dict.fromkeys([output] if output else graph)
    for node_id in (queue := list(seen)):
        yield node_id
        for key, value in graph[node_id]["inputs"].items():
            linked = isinstance(value, list) and len(value) == 2 and value[0] in graph
            if linked and f"{node_id}.{key}" not in written and value[0] not in seen:
                seen[value[0]] = None
                queue.append(value[0])


def silently_wrong(name: str, graph: Graph) -> list[str]:
    """The inputs that would be sent as they stand, and that the reading does not mention."""
    reading = read(graph)
    mentioned = "\n".join(lines_of(reading))
    known = set(re.findall(r"[\w:]+\.[\w.]+", mentioned))
    written = {str(one) for bound in reading.bindings.values() for one in bound}
    return [
        f"{node_id}.{key}"
        for node_id in reached(graph, reading.output, written)
        for key, value in graph[node_id]["inputs"].items()
        if matters(graph[node_id]["class_type"], key, value) and f"{node_id}.{key}" not in known | DEAD.get(name, set())
    ]


def matters(kind: str, key: str, value: object) -> bool:
    """If a literal is the owner's text, a sampler's seed, or a first latent's size."""
    if isinstance(value, str):
        return value.startswith(("OWN", "TEXT", "<lora"))
    if isinstance(value, int) and key.rpartition(".")[2] in {"seed", "noise_seed"}:
        return True
    return isinstance(value, int) and key in {"width", "height"} and kind.startswith("Empty")


def numbers() -> str:
    """The line of the documents: how many graphs, and how they are read."""
    found: Counter[str] = Counter()
    for name, graph in graphs():
        reading, lines = read(graph), list(lines_of(read(graph)))
        if silently_wrong(name, graph):
            found["silently wrong"] += 1
        elif reading.problems:
            found["asked"] += 1
        else:
            found["right" if all(line.startswith("set ") for line in lines) else "told"] += 1
    columns = ("right", "asked", "told", "silently wrong")
    return f"| {sum(found.values())} | {' | '.join(str(found[one]) for one in columns)} |"


def main() -> None:
    if "--write" in sys.argv:
        blocks = ("\n".join([name, *(f"  {line}" for line in lines_of(read(graph)))]) for name, graph in graphs())
        READINGS.write_text("\n\n".join(blocks) + "\n", "utf-8")
    print("| graphs | right | asked | told | silently wrong |")
    print(numbers())
    for name, graph in graphs():
        for one in silently_wrong(name, graph):
            print(f"silently wrong: {name}: {one}")


if __name__ == "__main__":
    main()
