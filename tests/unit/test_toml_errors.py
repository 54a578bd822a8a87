"""Files that are not TOML: each kind of slip is told with its line, a caret and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from reggen.errors import JobError
from reggen.job import loader


def told(tmp_path: Path, content: str | bytes) -> str:
    """The report of a job file, without its first line."""
    file = tmp_path / "job.toml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(JobError) as caught:
        loader.load(file)
    head, _, rest = str(caught.value).partition("\n")
    assert head == f"{file} has one problem:"
    return rest


@pytest.mark.parametrize(
    ("line", "what", "caret"),
    [
        ('class = "girl', 'the text is not closed: a quote is missing (write class = "girl";', 14),
        ("class = 'girl", "the text is not closed: a quote is missing (write class = 'girl';", 14),
        ('class = girl"', 'girl is a text without quotes (write class = "girl")', 9),
        ("class = girl", 'girl is a text without quotes (write class = "girl")', 9),
        ("cfg = 7,5", "7,5 has a comma where TOML has a point (write cfg = 7.5)", 8),
        ("count = 1,000", "1,000 has a comma (write count = 1000)", 10),
        ("resolution = 512,768", "512,768 is two numbers (write resolution = [512, 768])", 17),
        ("size = True", "True is not a value of TOML (write true)", 8),
        ("size = no", "no is not a value of TOML (write false)", 8),
        ("steps = None", "TOML has no None (leave the key out)", 9),
        ("class = “girl”", '“ is a typographic quote (write " instead, at both ends)', 9),
        ("class = \u2018girl\u2019", "\u2018 is a typographic quote (write ' instead, at both ends)", 9),
        ("count: 9", ": stands where = belongs (write count = 9)", 6),
        ("count => 9", "=> stands where = belongs (write count = 9)", 8),
        ("count 9", "there is no = between key and value (write count = 9)", 7),
        ("count =", "count has no value", 8),
        ("count = 09", "09 begins with a zero (write count = 9)", 10),
        ("count = 9;", "; stands behind the value", 10),
        ("count = 9 images", "images stands behind the value", 11),
        ("count\u00a0= 9", "a non-breaking space stands here", 6),
        ("// a remark", "// begins no comment in TOML (comments begin with #)", 1),
        ("[sampling", "the line of a table ends with ] (write [sampling])", 10),
        ("sampling", "sampling is a table (write [sampling])", 9),
        ("x = { a = 1, }", "a comma stands before }", 14),
        (r'text = "a \{b\}"', r"""\{ is no escape in a "..." text (write \\{ for \{, or put the text in 'single""", 11),
        (r'root = "D:\sets\reg"', "write Windows paths with / or in 'single quotes'", 11),
        (r'root = "C:\Users\me"', "write Windows paths with / or in 'single quotes'", 11),
        ('root = "a"\nroot = "b"', "root stands twice, first in line 3 (keep one of the two)", 11),
        ("[checks]\n[checks]", "[checks] stands twice, first in line 3 (move the keys below the first one)", 8),
        ("a = [1, 2\nb = 3", "the list is not closed", 1),
        ('a = """never\nclosed', 'the text that begins with """ here is never closed', 5),
    ],
)
def test_a_slip_is_told_with_its_line_a_caret_and_the_remedy(tmp_path: Path, line: str, what: str, caret: int) -> None:
    """The caret stands below the first letter that the reader of TOML did not understand."""
    report = told(tmp_path, f"# a job\n[dataset]\n{line}\n").splitlines()
    assert report[0].startswith("  line ")
    assert what in report[0]
    assert report[1].strip()
    assert report[2] == " " * (6 + caret - 1) + "^"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ('{"dataset": {"root": "reg"}}', "it is JSON, and a job file is TOML"),
        ('{"dataset": {"root": "reg",}}', "it looks like JSON, and a job file is TOML"),
        ('{"3": {"class_type": "KSampler", "inputs": {}}}', "it is a ComfyUI workflow (name it in a job file"),
        ("dataset:\n  root: reg\n", "it is YAML, and a job file is TOML"),
        ("<html></html>", "it is a web page or XML"),
        ("[dataset]\n".encode("utf-16"), "it is UTF-16, as PowerShell's > writes it (save it as UTF-8; in PowerShell"),
        ("[dataset]\nclass = 'é'".encode("latin-1"), "line 2: it is not UTF-8 (0xE9, 'é' in Windows' own encoding)"),
        (b"\x89PNG\r\n\x1a\n\0\0", "it is not a text"),
    ],
)
def test_another_format_is_told_by_its_name(tmp_path: Path, content: str | bytes, what: str) -> None:
    """JSON, a workflow, YAML, a web page, other encodings, a picture."""
    assert what in told(tmp_path, content)


def test_a_line_with_a_secret_is_not_shown(tmp_path: Path) -> None:
    """The line is named by its number alone."""
    report = told(tmp_path, '[[servers]]\nheaders = { Authorization = "Bearer hunter2 }\n')
    assert "line 2" in report
    assert "hunter2" not in report


def test_a_long_line_is_shown_around_the_fault(tmp_path: Path) -> None:
    """As much as fits on a terminal."""
    *_, shown, caret = told(tmp_path, f'positive = "{"a" * 300}" x\n').splitlines()
    assert len(shown) <= 80
    assert shown[caret.index("^")] == "x"
