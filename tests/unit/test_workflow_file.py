"""The workflow file: the files that are read as a graph, and how others are reported."""

import json
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from reggen.errors import WorkflowError
from reggen.prepare.workflow_file import read_graph
from tests.unit.test_page_format import INFO, page
from tests.unit.test_workflow import CLASSIC

API = "(in ComfyUI: Workflow > Export (API))"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            '{"nodes": [], "links": [], "version": 0.4}',
            f"it is a workflow as ComfyUI's page saves it, and no server is named {API}",
        ),
        ("{}", f"it is not a ComfyUI graph in API format: it holds an empty table {API}"),
        ("[1]", f"it is not a ComfyUI graph in API format: it holds a list {API}"),
        ('{"a": 1, "b": "x"}', f"it holds no node {API}"),
        ('{"3": {"inputs": {}}}', f"node 3 has no class_type {API}"),
        ('{"3": ["KSampler"]}', f"node 3 has no class_type {API}"),
        ("{", "it is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("", "it is not JSON: Expecting value: line 1 column 1 (char 0)"),
        pytest.param("[" * 100_000, "it is nested too deeply", id="nested"),
    ],
)
def test_a_file_that_is_no_graph_is_reported_as_what_it_is(tmp_path: Path, content: str, problem: str):
    """For a workflow saved from ComfyUI's page, or other JSON, the hint is the menu entry for the right one."""
    file = tmp_path / "graph.json"
    file.write_text(content)
    with pytest.raises(WorkflowError) as caught:
        read_graph(file)
    assert [str(found) for found in caught.value.problems] == [problem]
    assert caught.value.file == str(file)


def test_a_missing_or_unreadable_workflow_is_reported(tmp_path: Path):
    """No file, or a folder in its place, is a problem of the job."""
    with pytest.raises(WorkflowError, match="there is no such file"):
        read_graph(tmp_path / "nope.json")
    with pytest.raises(WorkflowError, match="there is no such file"):
        read_graph(tmp_path / "nope.png")
    with pytest.raises(WorkflowError, match="it cannot be read: "):
        read_graph(tmp_path)


def test_a_workflow_from_notepad_is_read(tmp_path: Path):
    """A byte order mark is accepted."""
    file = tmp_path / "graph.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(CLASSIC).encode())
    assert read_graph(file) == CLASSIC


@pytest.mark.parametrize("name", ["made.png", "MADE.PNG"])
def test_a_picture_that_carries_its_graph_is_a_workflow(tmp_path: Path, name: str):
    """A PNG that ComfyUI saved holds the graph that made it."""
    info = PngInfo()
    info.add_text("prompt", json.dumps(CLASSIC))
    info.add_text("workflow", json.dumps({"nodes": [], "links": []}))
    Image.new("RGB", (8, 8)).save(tmp_path / name, "PNG", pnginfo=info)
    assert read_graph(tmp_path / name) == CLASSIC


def test_a_picture_that_carries_none_is_reported(tmp_path: Path):
    """A PNG whose graph was stripped, by an editor or a site, cannot be used."""
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    with pytest.raises(WorkflowError) as caught:
        read_graph(tmp_path / "plain.png")
    assert str(caught.value).endswith(
        "this picture carries no ComfyUI graph (use one that ComfyUI saved itself, unchanged)"
    )


@pytest.mark.parametrize("note", ["[" * 100_000, '{"3":' * 50_000], ids=["list", "table"])
@pytest.mark.parametrize("ending", [".png", ".json"])
def test_a_graph_nested_without_end_is_reported(tmp_path: Path, note: str, ending: str):
    """In a picture and in a file."""
    file = tmp_path / f"a{ending}"
    if ending == ".png":
        texts = PngInfo()
        texts.add_text("prompt", note)
        Image.new("RGB", (8, 8)).save(file, pnginfo=texts)
    else:
        file.write_text(note)
    with pytest.raises(WorkflowError, match="nested too deeply"):
        read_graph(file)


def test_a_picture_whose_chunk_claims_too_much_is_reported(tmp_path: Path):
    """As damage, whatever the decoder raises."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:33] + b"\x7f\xff\xff\xfftEXtprompt\0{}" + content[33:])
    with pytest.raises(WorkflowError):
        read_graph(tmp_path / "a.png")


def test_a_file_that_only_calls_itself_a_picture_is_reported(tmp_path: Path):
    """The content decides, not the ending."""
    (tmp_path / "fake.png").write_text("hello")
    with pytest.raises(WorkflowError, match="it is not a PNG, although its name ends"):
        read_graph(tmp_path / "fake.png")


WRAPPED = {
    "posted": {"prompt": CLASSIC, "client_id": "x"},
    "a service's": {"input": {"workflow": CLASSIC}},
    "another service's": {"workflow_api": CLASSIC, "version": 2},
    "with comments": {"_comment": "mine", "version": 1, **CLASSIC},
}


@pytest.mark.parametrize("document", WRAPPED.values(), ids=WRAPPED)
def test_a_wrapped_graph_is_taken_out(tmp_path: Path, document: dict[str, object]) -> None:
    """Bodies as they are posted to ComfyUI and to services, and keys that are no nodes."""
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    assert read_graph(file) == CLASSIC


@pytest.mark.parametrize(("ending", "tag"), [("webp", 0x010F), ("jpg", 0x0110), ("webp", 0x010E)])
def test_webp_and_jpeg_carry_a_graph_in_their_exif(tmp_path: Path, ending: str, tag: int) -> None:
    """ComfyUI's savers put prompt:{...} into Make, Model or a neighbour."""
    image, exif = Image.new("RGB", (8, 8)), Image.Exif()
    exif[tag] = "prompt:" + json.dumps(CLASSIC)
    image.save(file := tmp_path / f"made.{ending}", exif=exif)
    assert read_graph(file) == CLASSIC
    image.save(bare := tmp_path / f"bare.{ending}")
    with pytest.raises(WorkflowError, match="carries no ComfyUI graph"):
        read_graph(bare)


def test_the_page_s_format_is_converted_with_a_server_s_classes(tmp_path: Path) -> None:
    """Bare, or as the only thing that a picture carries."""
    file = tmp_path / "page.json"
    file.write_text(json.dumps(page()), encoding="utf-8")
    assert read_graph(file, lambda _names: INFO)["6"]["inputs"]["text"] == "a cat"
    info = PngInfo()
    info.add_text("workflow", json.dumps(page()))
    Image.new("RGB", (8, 8)).save(picture := tmp_path / "page.png", pnginfo=info)
    assert read_graph(picture, lambda _names: INFO)["6"]["inputs"]["text"] == "a cat"
    with pytest.raises(WorkflowError, match=r"KSampler \(node 3\): the server does not have its class"):
        read_graph(file, lambda _names: {name: spec for name, spec in INFO.items() if name != "KSampler"})


def test_a_damaged_page_is_told(tmp_path: Path) -> None:
    """No traceback for a file that somebody edited by hand."""
    for broken in (
        {"nodes": [1], "links": [[1]]},
        {"nodes": [{"id": 1, "type": "KSampler", "inputs": 5}], "links": []},
    ):
        (tmp_path / "page.json").write_text(json.dumps(broken), encoding="utf-8")
        with pytest.raises(WorkflowError):
            read_graph(tmp_path / "page.json", lambda _names: INFO)
