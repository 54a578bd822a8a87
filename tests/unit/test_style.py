"""The limits of the code are kept, and the script that measures them measures right."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tests.style import rooms
from tests.style.__main__ import main
from tests.style.figures import ROOT, read, table
from tests.style.limits import asks, breaches, names_twice
from tests.style.source import Function, Module, measure


def made(source: str, path: str = "house/room.py") -> Module:
    return measure(path, dedent(source).lstrip())


def function(source: str) -> Function:
    (found,) = made(source).functions
    return found


def limits(*modules: Module) -> list[str]:
    return [breach.limit for breach in breaches(modules)]


def test_reggen_keeps_its_limits() -> None:
    """What exceeds one has its reason beside it."""
    found = breaches(read(ROOT / "reggen"))
    assert found == [], "\n".join(map(str, found))


def test_a_body_is_measured_without_signature_and_docstring() -> None:
    """The lines of a function are those of its statements, from the first to the end of the last."""
    source = '''
        def sum_of(
            one: int,
            other: int,
        ) -> int:
            """Sum of two.

            Both are numbers.
            """
            total = one

            # the other is added
            return total + (
                other
            )
        '''
    assert function(source).lines == 6
    assert function('def nothing():\n    """Nothing."""\n').lines == 0


@pytest.mark.parametrize(
    ("signature", "parameters"),
    [
        ("def f(a, /, b, *, c, **rest): ...", 3),
        ("class A:\n    def f(self, a): ...", 1),
        ("class A:\n    @classmethod\n    def f(cls, a): ...", 1),
        ("class A:\n    @staticmethod\n    def f(a, b): ...", 2),
    ],
)
def test_parameters_are_what_a_caller_may_give(signature: str, parameters: int) -> None:
    """self and cls do not count, nor does what is collected with stars."""
    assert function(signature).parameters == parameters


@pytest.mark.parametrize(
    ("body", "nesting"),
    [
        ("return 1", 0),
        ("if a:\n    return 1\nelif b:\n    return 2\nelse:\n    return 3", 1),
        ("if a:\n    return 1\nelse:\n    x = 1\n    if b:\n        return 2", 2),
        ("for a in b:\n  with a:\n    try:\n      a()\n    except E:\n      while a:\n        a()", 4),
        ("match a:\n    case 1:\n        if b:\n            return 1", 2),
    ],
)
def test_nesting_counts_blocks_and_no_elif(body: str, nesting: int) -> None:
    """Nesting is the number of blocks around the innermost statement."""
    source = "def f():\n" + "\n".join(f"    {line}" for line in body.splitlines())
    assert function(source).nesting == nesting


def test_functions_inside_count_for_themselves() -> None:
    """A closure's blocks are not those of the function around it; its name says where it stands."""
    outer, inner = made(
        """
        def outer():
            if a:
                def inner():
                    if b:
                        return 1
        """
    ).functions
    assert (outer.nesting, inner.nesting, inner.name) == (1, 1, "outer.inner")


def test_docstrings_of_fields_count() -> None:
    """A string below a field documents it; any other string is none."""
    module = made(
        '''
        """The module."""
        X = 1
        """What X is."""
        def f():
            """Whether it is."""
            g()
            """no docstring"""
        '''
    )
    assert [one.first for one in module.docstrings] == ["The module.", "What X is.", "Whether it is."]
    assert limits(module) == ["prose", "prose"]


@pytest.mark.parametrize(
    ("first", "question"),
    [("What it is.", True), ("Whether it is", True), ("When it ends.", True), ("Whatever is given.", False)],
)
def test_questions_are_known_by_their_first_word(first: str, question: bool) -> None:
    """A docstring says what a caller gets, it asks nothing."""
    assert asks(first) is question


@pytest.mark.parametrize(
    ("limit", "template"),
    [
        ("long", "def f():  # {}\n" + "    x = 1\n" * 41),
        ("wide", "def f(  # {}\n    a, b, c, d, e, f, g\n): ..."),
        ("deep", "def f():  # {}\n    if a:\n     if b:\n      if c:\n       if d: e"),
        ("methods", "class A:  # {}\n" + "    def f(self): ...\n" * 21),
        ("long", '"""A table."""\n\n# {}\n\n' + "x = 1\n" * 400),
    ],
)
def test_a_limit_is_broken_with_a_reason_only(limit: str, template: str) -> None:
    """The comment names the limit and says why; a comment about another one excuses nothing."""
    for comment in ("", "deliberately", "long:", "other: a table", "twin: a table"):
        assert limits(made(template.format(comment))) == [limit]
    assert limits(made(template.format(f"{limit}: one table"))) == []


def test_one_less_breaks_nothing() -> None:
    """The limits themselves are allowed."""
    assert limits(made("def f():\n" + "    x = 1\n" * 40)) == []
    assert limits(made("def f(a, b, c, d, e, f): ...")) == []
    assert limits(made("def f():\n    if a:\n     if b:\n      if c: d")) == []
    assert limits(made("class A:\n" + "    def f(self): ...\n" * 20)) == []
    assert limits(made("x = 1\n" * 400)) == []


def test_class_names_stand_in_one_module() -> None:
    """Two classes of one name are named both; nested ones belong to the class around them."""
    one, other = made("class Cache: ...", "house/a.py"), made("class Cache: ...", "house/b.py")
    assert names_twice([one, other]) == {"Cache": ["house/a.py", "house/b.py"]}
    assert limits(one, other) == ["twin", "twin"]
    assert limits(one, made("class Cache:  # twin: a trainer's\n    ...", "house/b.py")) == []
    assert limits(one, made("class Other:\n    class Cache: ...", "house/b.py")) == []


def test_rooms_are_read_from_the_imports(tmp_path: Path) -> None:
    """Packages, arrows between them and floors follow from the import lines alone."""
    house = tmp_path / "house"
    for name, text in {
        "__init__.py": "",
        "errors.py": "import sys",
        "cellar/__init__.py": "",
        "cellar/wine.py": "from house import errors",
        "attic/__init__.py": "",
        "attic/box.py": "from house.cellar.wine import Bottle\nimport house.attic.chest",
        "attic/chest.py": "from house.errors import Lost",
    }.items():
        (house / name).parent.mkdir(parents=True, exist_ok=True)
        (house / name).write_text(text)
    graph = rooms.module_graph(rooms.imports(house), "house")
    assert graph["attic.box"] == {"cellar.wine", "attic.chest"}
    packages = rooms.package_graph(graph)
    assert packages == {"errors": frozenset(), "cellar": {"errors"}, "attic": {"cellar", "errors"}}
    assert (rooms.height(packages), rooms.circles(graph)) == (3, [])
    (house / "errors.py").write_text("from house.attic import box")
    graph = rooms.module_graph(rooms.imports(house), "house")
    assert rooms.circles(graph) == [("attic.box", "attic.chest", "errors", "attic.box")]
    assert rooms.height(rooms.package_graph(graph)) == 0


def test_the_figures_name_the_worst(tmp_path: Path) -> None:
    """The table says how many exceed a limit, and which."""
    house = tmp_path / "house"
    house.mkdir()
    (house / "room.py").write_text("def f():\n" + "    x = 1\n" * 50)
    lines = {line.strip().partition("  ")[0]: line.split("  ")[-1].strip() for line in table(house).splitlines()[1:]}
    assert lines["bodies over 40 lines"] == "1: house/room.py f 50"
    assert lines["lines of a body"] == "median 50, p90 50, max 50"


def test_check_exits_1_when_a_limit_is_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code of --check is that of a linter."""
    (tmp_path / "room.py").write_text('"""What a room is."""\n')
    assert main(["--check", str(tmp_path)]) == 1
    assert capsys.readouterr().out.endswith("room.py:1: What a room is.: a docstring that begins like a question\n")
    (tmp_path / "room.py").write_text('"""A room."""\n')
    assert main(["--check", str(tmp_path)]) == 0
