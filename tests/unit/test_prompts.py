"""Templates, wildcards, shares and matrices: what a job's author writes, and what it becomes."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import pytest

from reggen.errors import JobError
from reggen.prepare.wildcard_files import WildcardFolder
from reggen.prompts.generator import PromptGenerator
from reggen.prompts.matrix import Matrix
from reggen.prompts.template import Value

FILES = {
    "colour": ("red", "blue", "green"),
    "clothes/hats": ("cap", "beret"),
    "clothes/coats": ("parka", "cap"),
    "world": ("__africa__", "Norway"),
    "africa": ("Mali", "Chad"),
    "weighted": ("3::day", "night"),
    "seasons": ("summer", "{autumn|fall}"),
    "here": ("a", "__there__"),
    "there": ("__here__",),
    "empty": (),
    "torn": ("fine", "{a|b"),
}
BRACE = r"write \{ for a literal one)"
DOLLAR = r"the choice itself, or \$ for a literal dollar)"
ALL = "every combination gets its turn)"


def a_round(template: str, slots: int = 0) -> list[str]:
    """The prompts of the first slots, by default as many as there are combinations."""
    generator = PromptGenerator([template], FILES, seed=7)
    return sorted(generator.prompt(index) for index in range(slots or generator.combinations))


@pytest.mark.parametrize(
    ("template", "prompts"),
    [
        ("a photo", ["a photo"]),
        ("a {x|y} z", ["a x z", "a y z"]),
        ("{x|y}{1|2}", ["x1", "x2", "y1", "y2"]),
        ("{a|{b|c} d}", ["a", "b d", "c d"]),
        ("{2$$a|b|c}", ["a, b", "a, c", "b, c"]),
        ("{2$$ and $$a|b|c}", ["a and b", "a and c", "b and c"]),
        ("{1-2$$, $$a|b|c}", ["a", "a, b", "a, c", "b", "b, c", "c"]),
        ("{-2$$+$$a|b}", ["a", "a+b", "b"]),
        ("{2-$$+$$a|b|c}", ["a+b", "a+b+c", "a+c", "b+c"]),
        ("{0-1$$a|b}", ["", "a", "b"]),
        ("{4$$a|b}", ["a, b"]),  # no more than there are
        ("{2$$a|{b|c}}", ["a, b", "a, c"]),
        ("__colour__ hat", ["blue hat", "green hat", "red hat"]),
        ("__clothes/*__", ["beret", "cap", "parka"]),  # a line that stands in two of them counts once
        ("{2$$__colour__}", ["blue, green", "red, blue", "red, green"]),
        (
            "{2$$__africa__|__colour__}",
            ["Chad, blue", "Chad, green", "Chad, red", "Mali, blue", "Mali, green", "Mali, red"],
        ),
        ("__world__", ["Chad", "Mali", "Norway"]),
        ("__seasons__", ["autumn", "fall", "summer"]),
        (r"\{x\} {a\|b|\}}", ["{x} a|b", "{x} }"]),
        (r"\(series\) {a|b}", [r"\(series\) a", r"\(series\) b"]),  # prompt weighting keeps its own escapes
        (r"\__colour__, \${a|b}", ["__colour__, $a", "__colour__, $b"]),
        ("50% of $5, a|b, (x:1.2), <lora:y:1>, {c|d:1.2}", None),
        (
            "1girl, {smile|}, {|hat}, sky",
            ["1girl, hat, sky", "1girl, sky", "1girl, smile, hat, sky", "1girl, smile, sky"],
        ),
        ("{long |short |}hair", ["hair", "long hair", "short hair"]),
        ("^_^, @_@, o__o, ^___^, {a|b}", ["^_^, @_@, o__o, ^___^, a", "^_^, @_@, o__o, ^___^, b"]),
    ],
)
def test_a_template_s_first_round_is_every_combination_once(template, prompts):
    """The syntax people already write, with what it stands for."""
    if prompts is None:
        prompts = [template.replace("{c|d:1.2}", option) for option in ("c", "d:1.2")]
    assert a_round(template) == prompts


def test_a_text_without_choices_is_used_as_it_is_written():
    """Not a space is changed in it."""
    text = " a ,, b\n  c,"
    assert PromptGenerator([text]).prompt(5) == text


@pytest.mark.parametrize(
    ("template", "slots", "counts"),
    [
        ("{3::a|b}", 8, {"a": 6, "b": 2}),
        ("{0.5::a|0.25::b|0.25::c}", 4, {"a": 2, "b": 1, "c": 1}),
        ("{a|0::b}", 3, {"a": 3}),
        ("{ 2::a|b}", 3, {"a": 2, "b": 1}),
        ("__weighted__", 4, {"day": 3, "night": 1}),
        ("{2$$2::a|b|c}", 5, {"a, b": 2, "a, c": 2, "b, c": 1}),
    ],
)
def test_weights_hold_over_a_round(template, slots, counts):
    """A combination comes as often in a round as its weights say."""
    assert Counter(a_round(template, slots=slots)) == counts


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{a|b", "character 1 of '{a|b' opens a brace that is never closed (" + BRACE),
        ("a|b}", r"character 4 of 'a|b}' closes a brace that was never opened (write \} for a literal one)"),
        ("x {}", "character 3 of 'x {}' has nothing to choose from (write {red|blue})"),
        ("{0::a}", "every option has the weight 0 (leave the weights out)"),
        ("{3-1$$a|b|c}", "3-1$$ asks for at least 3 and at most 1 (write 1-3$$)"),
        ("__colours__", "there is no wildcard file colours.txt (did you mean __colour__?)"),
        ("__hats__", "there is no wildcard file hats.txt (did you mean __clothes/hats__?)"),
        ("__Colour__", "there is no wildcard file Colour.txt (did you mean __colour__?)"),
        ("__zzzzzz__", "there is no wildcard file zzzzzz.txt (there are 11 others)"),
        ("__here__", "in there.txt: the wildcard __here__ names itself: here > there > here"),
        ("__empty__", "__empty__ has nothing to choose from (its file has no lines, or only comments)"),
        ("__torn__", "in torn.txt: character 1 of '{a|b' opens a brace that is never closed (" + BRACE),
        ("${a=b}", "character 1 of '${a=b}' begins a variable, which reggen does not support (write " + DOLLAR),
        ("{@a|b}", "character 1 of '{@a|b}' begins with a sampling method (leave the ~, ! or @ out: " + ALL),
        ("__colour(x=1)__", None),
        ("%{a$$b}", None),
        ("{" * 60 + "a" + "}" * 60, None),
        ("{200$$" + "|".join("a" * 200) + "}", None),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_problem_in_a_sentence(template, sentence):
    """It says where, what, and what to write instead."""
    with pytest.raises(JobError) as caught:
        PromptGenerator([template], FILES, key="prompts.positive")
    (problem,) = caught.value.problems
    assert problem.key == "prompts.positive"
    if sentence is not None:
        assert str(problem) == f"prompts.positive: {sentence}"


def test_all_problems_are_told_at_once():
    """Each with the number of its prompt; a weight of nothing is one too."""
    with pytest.raises(JobError) as caught:
        PromptGenerator(["{a", ("b", 0), "c}"])
    assert [problem.key for problem in caught.value.problems] == [f"prompts.positive[{place}]" for place in range(3)]
    with pytest.raises(JobError):
        PromptGenerator([])
    with pytest.raises(JobError, match="there are no wildcard files"):
        PromptGenerator(["__colour__"])


def test_a_wildcard_chain_of_any_length_is_read_or_refused():
    """It never ends in a traceback."""
    chain = {f"w{place}": (f"__w{place + 1}__",) for place in range(2000)} | {"w2000": ("end",)}
    assert PromptGenerator(["__w1990__"], chain).prompt(0) == "end"
    with pytest.raises(JobError, match="nested too deeply"):
        PromptGenerator(["__w0__"], chain)


def chained(line: str, length: int, last: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Wildcard files, each of whose one line names the next as often as the line says."""
    files = {f"w{place}": (line.format(f"__w{place + 1}__"),) for place in range(length)}
    return files | {f"w{length}": tuple(last)}


@pytest.mark.parametrize(
    ("template", "files", "says"),
    [
        ("{a|b}" * 20_000, {}, "has more than 10^1000 combinations"),
        ("__w0__", chained("{0} {0}", 30, "ab"), "has more than 10^1000 combinations"),
        ("__w0__", chained("{0} {0}", 30, "a"), "makes prompts of more than 20,000 characters and choices"),
        ("__w0__", chained("{0}{0}", 30, ["2::"]), "makes prompts of more than 20,000 characters and choices"),
        ("{100$$__tags__}", {"tags": [f"tag {n}" for n in range(60_000)]}, "chooses up to 100 of 60,000"),
        ("{" + "9" * 5_000 + "::a|b}", {}, "a weight has 5,000 digits"),
        ("{a|." + "9" * 5_000 + "::b}", {}, "a weight has 5,001 digits"),
        ("__w__", {"w": ["9" * 5_000 + "::a"]}, "in w.txt: a weight has 5,000 digits"),
        ("{" + "9" * 5_000 + "$$a|b}", {}, "a number before $$ has 5,000 digits"),
        ("{-" + "9" * 5_000 + "$$a|b}", {}, "a number before $$ has 5,000 digits"),
        ("a" * 1_000_001, {}, "has 1,000,001 characters"),
        ("a" * 60_000, {}, "makes prompts of more than 20,000 characters and choices"),
        ("{" + "1" * 60_000 + "|b}", {}, "makes prompts of more than 20,000 characters and choices"),
        ("__a- " * 20_000, {}, "makes prompts of more than 20,000 characters and choices"),
        (" " * 60_000, {}, "makes prompts of more than 20,000 characters and choices"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 60 else "",
)
def test_what_no_memory_or_night_would_hold_is_refused(template, files, says):
    """Soon, and in a sentence of a few words, however large what is meant would be."""
    begun = time.process_time()
    with pytest.raises(JobError) as caught:
        PromptGenerator([template], files)
    (problem,) = caught.value.problems
    assert says in str(problem)
    assert len(str(problem)) < 200
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    "piece",
    [" ", " ,", ", ", ",", "_", "__a- ", "__a", "__", "\\", "{a|", "1", "$", "(", "\t ,x", "[", "*", "{ ", "1::"],
)
def test_a_long_text_is_read_in_time(piece):
    """Its time grows with its length, not with the square of it: many of what is nearly something else."""
    for text in (piece * (16_000 // len(piece)), f"{{a|b}}{piece * (16_000 // len(piece))}", f"{{{piece * 16_000}"):
        begun = time.process_time()
        with suppress(JobError):
            PromptGenerator([text], FILES).prompt(0)
        assert time.process_time() - begun < 0.5


def test_the_same_few_of_many_are_counted_once():
    """A file of tags that a template names again and again takes no more memory for it."""
    tags = {"tags": [f"tag {number}" for number in range(5_000)]}
    begun = time.process_time()
    assert PromptGenerator(["{2$$__tags__} " * 100], tags).combinations == (5_000 * 4_999 // 2) ** 100
    assert time.process_time() - begun < 2


def test_names_of_one_letter_are_names():
    """Two of them in a row are two wildcards."""
    assert PromptGenerator(["__a__ __b__"], {"a": ["x"], "b": ["y"]}).prompt(0) == "x y"


def test_values_say_what_was_chosen_where():
    """As both are written, so that counts per value can be kept; what is nested follows what it is nested in."""
    generator = PromptGenerator(["{__world__|x} {2$$a|b}"], {"world": ("__africa__",), "africa": ("Mali",)})
    chosen = {generator.prompt(index): generator.values(index) for index in range(2)}
    assert chosen["Mali a, b"] == (
        Value("{__world__|x}", "__world__"),
        Value("__world__", "__africa__"),
        Value("__africa__", "Mali"),
        Value("{2$$a|b}", "a"),
        Value("{2$$a|b}", "b"),
    )


def test_three_to_one_over_a_hundred_slots_is_75_and_25():
    """Evenly mixed, not one after the other."""
    generator = PromptGenerator([("a", 3), ("b", 1)])
    prompts = [generator.prompt(index) for index in range(100)]
    assert Counter(prompts) == {"a": 75, "b": 25}
    assert all("b" in prompts[start : start + 4] for start in range(0, 100, 4))


def test_equal_prompts_take_turns():
    """As a list of prompts always did."""
    generator = PromptGenerator(["a", "b", "c"])
    assert [generator.prompt(index) for index in range(7)] == list("abcabca")


def test_the_order_is_pinned():
    """Law 8: these texts must never change, or a resumed job would make other pictures than before."""
    generator = PromptGenerator(["a {red|blue|green} {hat|coat}", ("{3::x|y}", 0.5)], seed=42)
    assert [generator.prompt(index) for index in range(9)] == PINNED
    settings = Matrix({"sampler": ("euler", "dpmpp_2m"), "cfg": (5, 7)}, seed=42)
    assert [tuple(settings.at(index).values()) for index in range(4)] == PINNED_SETTINGS


PINNED = ["a red hat", "x", "a green hat", "a red coat", "x", "a blue coat", "a green coat", "y", "a blue hat"]
PINNED_SETTINGS = [("dpmpp_2m", 5), ("dpmpp_2m", 7), ("euler", 7), ("euler", 5)]


def test_six_prompts_and_two_samplers_meet_in_all_twelve_ways():
    """They are not locked in step, although two divides six."""
    generator, matrix = PromptGenerator(["{a|b|c|d|e|f}"]), Matrix({"sampler": ("euler", "dpmpp_2m")})
    pairs = [matrix.with_prompt(generator, index) for index in range(12)]
    assert len({(prompt.text, settings["sampler"]) for prompt, settings in pairs}) == 12
    assert len({prompt.text for prompt, _ in pairs[:6]}) == 6


def test_a_list_of_prompts_beside_a_matrix_is_exact_in_both():
    """Two prompts, three sizes: every three slots have all sizes, every six all pairs."""
    generator, matrix = PromptGenerator(["a", "b"]), Matrix({"size": ((512, 512), (512, 768), (768, 512))})
    pairs = [matrix.with_prompt(generator, index) for index in range(12)]
    for start in range(0, 12, 3):
        assert len({settings["size"] for _, settings in pairs[start : start + 3]}) == 3
    for start in (0, 6):
        assert len({(prompt.text, settings["size"]) for prompt, settings in pairs[start : start + 6]}) == 6


def test_a_matrix_without_axes_has_one_empty_combination():
    """So that callers need not ask whether there is one."""
    matrix = Matrix[object]({})
    assert matrix.combinations == 1
    assert matrix.at(3) == {}


def test_an_axis_that_is_none_is_a_problem():
    """Without values nothing could be made; a value twice would come twice."""
    with pytest.raises(JobError) as caught:
        Matrix({"cfg": (), "steps": (20, 30, 20), "size": ((8, 8), (8, 16))})
    assert [str(problem) for problem in caught.value.problems] == [
        "matrix.cfg: has no values (leave the axis out)",
        "matrix.steps: has 20 twice (name each value once)",
    ]


def test_ten_million_slots_cost_nothing_until_they_are_asked_for():
    """The last costs no more than the first, in a space of more combinations than could be listed."""
    files = {f"w{number}": tuple(f"{number} value {line}" for line in range(500)) for number in range(8)}
    start = time.process_time()
    generator = PromptGenerator([", ".join(f"__{name}__" for name in files) + " {2-3$$__w0__}"], files)
    assert generator.combinations > 10**20
    for index in (0, 9_999_999, 10**15):
        assert generator.prompt(index)
    assert time.process_time() - start < 1


def test_prompts_are_the_same_in_every_process():
    """Whatever the seed of the process's own hashes."""
    made = "[PromptGenerator(['{a|b|c} {2$$d|e|f}'], seed=1).prompt(i) for i in range(9)]"
    code = f"from reggen.prompts.generator import PromptGenerator; print({made})"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_the_wildcards_folder_is_read_by_name(tmp_path):
    """Sub-folders belong to the name; comments, empty lines, hidden things and Windows' marks do not count."""
    (tmp_path / "clothes").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.txt").write_text("x", encoding="utf-8")
    (tmp_path / "notes.md").write_text("x", encoding="utf-8")
    (tmp_path / "clothes" / "hats.txt").write_bytes(b"\xef\xbb\xbf# hats\r\n\r\n cap \r\nberet\r\n  # old\r\n\\#1 hat")
    (tmp_path / "a.txt").write_text("", encoding="utf-8")
    folder = WildcardFolder(tmp_path)
    assert dict(folder) == {"a": (), "clothes/hats": ("cap", "beret", "\\#1 hat")}
    assert len(folder) == 2
    assert sorted(PromptGenerator(["__clothes/*__"], folder).prompt(index) for index in range(3)) == [
        "#1 hat",
        "beret",
        "cap",
    ]


def test_a_comment_behind_a_value_is_cut(tmp_path):
    """As sd-dynamic-prompts cuts it; a colour is none."""
    (tmp_path / "hats.txt").write_text("cap # the red one\nhat #f00\n", encoding="utf-8")
    assert dict(WildcardFolder(tmp_path)) == {"hats": ("cap", "hat #f00")}


def test_a_file_that_is_not_named_is_not_read(tmp_path):
    """A folder of thousands of files costs its listing only."""
    (tmp_path / "good.txt").write_text("fine", encoding="utf-8")
    (tmp_path / "torn.txt").write_bytes(b"caf\xe9")
    folder = WildcardFolder(tmp_path)
    assert PromptGenerator(["__good__"], folder).prompt(0) == "fine"
    with pytest.raises(JobError, match=r"torn.txt is not UTF-8 \(byte 3\) \(save it as UTF-8\)"):
        PromptGenerator(["__torn__"], folder)


def test_a_wildcards_folder_that_is_not_there_is_a_problem(tmp_path):
    """With the nearest name beside it."""
    (tmp_path / "wildcards").mkdir()
    with pytest.raises(JobError, match=r"there is no folder .*wildcard \(did you mean .*wildcards\?\)"):
        WildcardFolder(tmp_path / "wildcard")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_what_is_no_file_is_not_waited_for(tmp_path):
    """A pipe named like a wildcard file would never end."""
    os.mkfifo(tmp_path / "x.txt")
    with pytest.raises(JobError, match=r"x.txt cannot be read: it is a pipe"):
        PromptGenerator(["__x__"], WildcardFolder(tmp_path))


def test_a_wildcard_file_without_end_is_not_read(tmp_path):
    """The problem of a large one is its size."""
    with (tmp_path / "x.txt").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(JobError, match=r"x.txt cannot be read: it is larger than 64 MiB"):
        PromptGenerator(["__x__"], WildcardFolder(tmp_path))


def test_a_folder_of_everything_is_no_wildcards_folder(tmp_path):
    """A whole disk, say, is reported and not walked."""
    for number in range(30):
        (tmp_path / f"{number}.md").touch()
    with pytest.raises(JobError, match="more than 20 files and folders are below"):
        WildcardFolder(tmp_path, max_entries=20)
