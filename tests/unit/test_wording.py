"""Pieces of sentences, back-off, whole writes and free names: what several rooms share."""

from __future__ import annotations

from datetime import date

import pytest

from reggen.backoff import Backoff, full_jitter
from reggen.files import free_name, write_whole
from reggen.wording import cut, did_you_mean, first_few, likest, listed, meant, nearest, plural, value_text


def test_near_names_are_found_whatever_their_case() -> None:
    """The suggestion keeps the spelling of the list; what is far away suggests nothing."""
    assert nearest("Euler_A", ["heun", "euler_a"]) == "euler_a"
    assert did_you_mean("cuont", ["count", "class"]) == "did you mean 'count'?"
    assert did_you_mean("zzz", ["count", "class"]) == ""
    assert nearest("x" * 10_000, ["x" * 10_000]) == ""


@pytest.mark.parametrize(
    ("name", "names", "one"),
    [
        ("EULER", ["euler", "euler_ancestral"], "euler"),
        ("euler_ancestrl", ["euler", "euler_ancestral"], "euler_ancestral"),
        ("euler_a", ["euler", "heun"], ""),
        ("dpmpp_2s", ["dpmpp_2m", "dpmpp_sde"], ""),
        ("xl.safetensors", ["sd/xl.safetensors", "other.safetensors"], "sd/xl.safetensors"),
        ("xl", ["xl_base.safetensors", "xl_refiner.safetensors"], ""),
        ("AnythingXL.safetensors", ["other.safetensors"], ""),
        ("", ["a", "b"], ""),
    ],
)
def test_a_guess_is_made_only_where_no_other_can_be_meant(name: str, names: list[str], one: str) -> None:
    """A slip, another case or a part left out; never the name of a different thing."""
    assert meant(name, names) == one


def test_names_are_put_in_the_order_of_their_likeness() -> None:
    """Equals keep their order."""
    assert likest("dpm_2", ["euler", "heun", "dpm_2_a", "dpm_fast"])[:2] == ["dpm_2_a", "dpm_fast"]


def test_lists_are_cut_and_say_how_much_is_left() -> None:
    """All of a short list, the first of a long one; the count may be larger than what is given."""
    assert first_few(["a", "b"], 2) == "a, b"
    assert first_few(["a", "b", "c"], 2) == "a, b and 1 more"
    assert first_few(["a", "b"], 5, 2_000) == "a, b and 1,998 more"
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert [plural(count, "image") for count in (0, 1, 2_000)] == ["0 images", "1 image", "2,000 images"]
    assert plural(2, "entry", "entries") == "2 entries"


def test_values_are_shown_as_their_author_wrote_them() -> None:
    """In TOML's words, cut to a line; a value that Python cannot print is named without it."""
    assert [value_text(value) for value in (True, 3, "a", date(2026, 5, 1))] == ["true", "3", "'a'", "2026-05-01"]
    assert value_text("x" * 100) == "'" + "x" * 79 + "..."
    assert value_text(1 << 20_000) == "the value"
    assert (cut("abc", 3), cut("abcd", 3)) == ("abc", "abc...")


def test_pauses_double_up_to_the_longest() -> None:
    """1, 2, 4 seconds and so on; the jitter lies between 0 and that; a million failures are no overflow."""
    backoff = Backoff(1.0, 60.0)
    assert [backoff.ceiling(failures) for failures in (0, 1, 2, 3, 7, 1_000_000)] == [1.0, 1.0, 2.0, 4.0, 60.0, 60.0]
    assert all(0 <= full_jitter(3.0) <= 3.0 for _ in range(100))


def test_a_write_is_whole_or_not_at_all(tmp_path) -> None:
    """What was there stays when the write fails, and no part file is left."""
    file = tmp_path / "report.json"
    write_whole(file, b"old")
    with pytest.raises(TypeError):
        write_whole(file, "no bytes")  # type: ignore[arg-type]
    assert file.read_bytes() == b"old"
    write_whole(file, b"new", durable=True)
    assert file.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_a_free_name_is_numbered_before_its_ending(tmp_path) -> None:
    """The name itself while it is free; a folder takes a name, too."""
    assert free_name(tmp_path, "reg_001.png").name == "reg_001.png"
    (tmp_path / "reg_001.png").touch()
    (tmp_path / "reg_001-2.png").mkdir()
    assert free_name(tmp_path, "reg_001.png").name == "reg_001-3.png"
