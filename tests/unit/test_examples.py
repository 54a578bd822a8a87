"""The captions that prompts are made after: one example for each text the trainer takes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from reggen.kohya.buckets import Bucketing
from reggen.kohya.captions import CaptionRules
from reggen.prepare.examples import training_examples
from reggen.training.served import served_part
from reggen.training.training_set import read_training
from tests.pictures import paint, write


def test_each_line_of_a_caption_file_is_an_example(tmp_path: Path) -> None:
    """With enable_wildcard; the lines of an image share its repeats. Prefix and suffix are kohya's."""
    paint(tmp_path / "4_sks" / "a.png", (256, 256))
    write(tmp_path / "4_sks" / "a.caption", "one\n\n two \nthree")
    rules = CaptionRules(wildcard=True, prefix="pre,", suffix="post")
    found = read_training(tmp_path, None, bucketing=Bucketing((256, 256)), captions=rules)
    made = list(training_examples(found, served_part(found), in_config=False))
    assert [one.caption for one in made] == ["pre, one", "two", "three post"]
    assert [one.written for one in made] == ["one", "two", "three"]
    assert {one.repeats for one in made} == {Fraction(4, 3)}
    assert {one.written for one in training_examples(found, served_part(found), in_config=True)} == {None}


def test_without_wildcards_the_first_line_is_the_caption(tmp_path: Path) -> None:
    """Braces are ordinary characters then."""
    paint(tmp_path / "4_sks" / "a.png", (256, 256))
    write(tmp_path / "4_sks" / "a.caption", "a {b|c}\nsecond")
    found = read_training(tmp_path, None, bucketing=Bucketing((256, 256)), captions=CaptionRules(prefix="pre"))
    (example,) = training_examples(found, served_part(found), in_config=True)
    assert example.chosen(1) == "pre a {b|c}"
    assert example.repeats == 4
