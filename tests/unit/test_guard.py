"""The guard: what is forbidden is found however it is written, and nothing else is."""

import pytest

from reggen.errors import JobError
from reggen.prompts.guard import Guard, Offence

FORBID = ["red bandana", "spyke_plasma_v1", "cloak", "ginger hair", "city"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1girl, (red bandana:1.2), smile", "red bandana"),
        ("((red)) bandana", "red)) bandana"),
        ("(red:1.2) bandana", "red:1.2) bandana"),
        ("[red bandana]", "red bandana"),
        ("red_bandana", "red_bandana"),
        ("RED-Bandana", "RED-Bandana"),
        ("a red\nbandana", "red\nbandana"),
        ("redbandana", "redbandana"),
        ("red bandanas", "red bandanas"),
        ("red bandanna", "red bandanna"),
        ("red bandannas", "red bandannas"),
        ("red badnana", "red badnana"),
        ("\uff32\uff25\uff24\u3000\uff42\uff41\uff4e\uff44\uff41\uff4e\uff41", None),  # full width
        ("r\u200bed ban\u00addana", None),  # with what cannot be seen
        ("<lora:spyke_plasma_v1:0.8>", "spyke_plasma_v1"),
        ("embedding:Spyke-Plasma-V1", "Spyke-Plasma-V1"),
        ("spyke plasma v1", None),
        ("spykeplasmav1", None),
        ("spyke_plasmav1", None),
        ("spyke, spyke plasma v1's sword", "spyke plasma v1"),
        ("1_cloaks", "cloaks"),
        ("of two cities.", "cities"),
    ],
)
def test_what_is_forbidden_is_found(text, found):
    """Case, spacing, weights, plurals and near spellings do not hide it; what stands there is said."""
    offence = Guard(FORBID).find(text)
    assert offence is not None
    assert text[offence.start : offence.end] == offence.found
    assert offence.found == (text if found is None else found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ", ,",
        "red, bandana",
        "red. Bandana",
        "bandana red",
        "red old bandana",
        "ginger cat, long hair",
        "ginger cat with long hair",
        "cloakroom",
        "uncloak",
        "cloat",  # a near spelling, but of a short word
        "finger hair",
        "spyke_plasma_v2",
        "spykeplasmav2",
        "spyke plasma",
        "v1",
        "cit",
    ],
)
def test_what_is_not_forbidden_is_left_alone(text):
    """No false alarm from a part of a word, a part of a phrase, another number or a short likeness."""
    assert Guard(FORBID).find_all(text) == ()


def test_short_words_are_found_whole_only():
    """Red is not in reddish nor in bred; a cat is no car."""
    guard = Guard(["red", "cat"])
    assert guard.find_all("reddish, bred, rd, car, hair edge, cut") == ()
    assert [one.found for one in guard.find_all("a red cat, cats")] == ["red", "cat", "cats"]


def test_the_singular_of_a_forbidden_plural_is_no_offence():
    """Glasses on a nose are not a glass of water."""
    assert Guard(["glasses"]).find("a glass of water") is None


def test_a_name_written_together_is_found_written_apart():
    """From six letters on; a shorter one would be found in chance neighbours."""
    assert Guard(["spykeplasmav1"]).find("a spyke plasma v1.") == Offence("spykeplasmav1", "spyke plasma v1", 2, 17)
    assert Guard(["redo"]).find("red o") is None


def test_a_phrase_is_not_found_without_one_of_its_words():
    """Written together, it differs from one of them by a letter only."""
    assert Guard(["dragon x"]).find_all("a dragon, dragons, x dragon") == ()
    assert Guard(["dragon x"]).find("dragonx") is not None


def test_words_of_scripts_without_spaces_are_found_anywhere():
    """Chinese and Japanese have no word boundaries to keep to."""
    assert Guard(["\u8d64\u3044"]).find("\u5f7c\u306f\u8d64\u3044\u5e3d\u5b50") == Offence(
        "\u8d64\u3044", "\u8d64\u3044", 2, 4
    )


def test_an_allowed_word_is_forbidden_only_as_it_is_spelled():
    """The way out when a near spelling or a plural is a word of its own."""
    assert Guard(["red bandana"]).find("red banana") is not None
    guard = Guard(["red bandana"], allow=["banana"])
    assert guard.find("red banana") is None
    assert guard.find("red bandanna") is not None


def test_every_offence_is_reported_in_the_order_of_the_text():
    """Entries may overlap each other; one does not overlap itself."""
    found = Guard(["red bandana", "bandana", "red"]).find_all("a bandana, red bandana")
    assert [(one.forbidden, one.start) for one in found] == [
        ("bandana", 2),
        ("red bandana", 11),
        ("red", 11),
        ("bandana", 15),
    ]
    assert len(Guard(["so so"]).find_all("so so so so so")) == 2


def test_an_offence_says_what_and_where():
    """For the author of the job: the place counts from 1."""
    assert str(Guard(["red bandana"]).find("a Red_Bandana")) == "'Red_Bandana' at character 3 (for 'red bandana')"
    assert str(Guard(["cloak"]).find("cloak")) == "'cloak' at character 1"


def test_without_entries_nothing_is_found():
    """And the guard is false, so that callers can leave out the work."""
    assert not Guard([])
    assert Guard([]).find("anything") is None


@pytest.mark.parametrize(
    ("negative", "expected"),
    [
        (None, "red bandana, cloak, red"),
        ("  ", "red bandana, cloak, red"),
        ("blurry,", "blurry, red bandana, cloak, red"),
        ("blurry, (Red_Bandanas:1.3)", "blurry, (Red_Bandanas:1.3), cloak, red"),
        ("red, cloak, red bandana", "red, cloak, red bandana"),
    ],
)
def test_the_negative_prompt_gets_what_it_lacks(negative, expected):
    """Nothing is repeated that is a tag of it already; a part of a longer tag is not yet there."""
    guard = Guard(["red bandana", "cloak", "red", "Cloak"])
    assert guard.extend_negative(negative) == expected
    assert guard.extend_negative(expected) == expected


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("!?", "job.forbid[1]: '!?' has neither letters nor digits (leave it out)"),
        (
            "red bandana, cloak",
            (
                "job.forbid[1]: 'red bandana, cloak' is more than one phrase and can never be found "
                "(write them one by one: 'red bandana', 'cloak')"
            ),
        ),
        ("a: b", "job.forbid[1]: 'a: b' is more than one phrase and can never be found (leave the punctuation out)"),
    ],
)
def test_an_entry_that_can_never_be_found_is_a_problem(entry, sentence):
    """It would guard nothing, in silence."""
    with pytest.raises(JobError) as caught:
        Guard(["fine", entry], key="job.forbid")
    assert [str(problem) for problem in caught.value.problems] == [sentence]
