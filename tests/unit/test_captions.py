"""From a training caption to the prompt of a regularization image."""

import pytest

from reggen.errors import JobError
from reggen.prompts.from_caption import escaped, prompt_from, without_phrases

TRIGGER = ["spyke_plasma_v1", "sks"]


@pytest.mark.parametrize(
    ("caption", "removed", "replaced"),
    [
        ("spyke_plasma_v1, 1boy, red hair", "1boy, red hair", "dog, 1boy, red hair"),
        ("1boy,red hair , , 1BOY, Red_Hair", "1boy, red hair", "1boy, red hair"),
        ("photo of Spyke Plasma V1 standing", "photo standing", "photo of dog standing"),
        ("photo of a sks", "photo", "photo of a dog"),
        ("a photo of a sks dog in the park", "a photo of a dog in the park", "a photo of a dog in the park"),
        ("a dog sks", "a dog", "a dog"),
        ("a sks otter", "an otter", "a dog otter"),
        ("An sks boy", "A boy", "A dog boy"),
        ("sks's hat", "hat", "dog's hat"),
        ("This is sks.", "This is.", "This is dog."),
        ("sks.", "dog", "dog."),
        ("photo of sks and a cat", "photo of a cat", "photo of dog and a cat"),
        ("a cat and sks", "a cat", "a cat and dog"),
        ("sks wearing a hat", "wearing a hat", "dog wearing a hat"),
        ("a boy on a sks, sky", "a boy, sky", "a boy on a dog, sky"),
        ("red_sks_hat", "red_hat", "red_dog_hat"),
        ("(spyke_plasma_v1:1.2), smile", "smile", "(dog:1.2), smile"),
        ("photo of a (sks:1.2) standing", "photo standing", "photo of a (dog:1.2) standing"),
        ("a ((spyke)) plasma v1 standing", "standing", "a ((dog)) standing"),
        ("((sks, red hair:1.1)), smile", "((red hair:1.1)), smile", "((dog, red hair:1.1)), smile"),
        ("(red hair, sks:1.2)", "(red hair:1.2)", "(red hair, dog:1.2)"),
        ("[sks], smile", "smile", "[dog], smile"),
        (r"spyke \(plasma v1\), smile", "smile", "dog, smile"),
        ("<lora:spyke_plasma_v1:0.8> 1boy", "1boy", "1boy"),
        ("embedding:sks-neg, 1boy", "1boy", "1boy"),
        ("sks, sks sks", "dog", "dog"),
        ("spyke sks plasma v1, sky", "sky", "spyke dog plasma v1, sky"),  # its parts meet only when it is taken out
        ("a man with 10,000 coins", "a man with 10,000 coins", "a man with 10,000 coins"),
        (":(, smile, :)", ":(, smile, :)", ":(, smile, :)"),
        ("the  first\nsecond line ", "the first second line", "the first second line"),
        ("", "dog", "dog"),
        (" , ,", "dog", "dog"),
    ],
)
def test_the_trigger_goes_and_good_text_stays(caption, removed, replaced):
    """Taken out, with the words that only led to it; or replaced in place."""
    assert prompt_from(caption, TRIGGER, "dog", replace=False) == removed
    assert prompt_from(caption, TRIGGER, "dog", replace=True) == replaced


def test_a_caption_without_trigger_and_commas_is_kept_as_it_is():
    """Natural language is not tidied beyond its spaces."""
    text = "A man stands (barely) at the sea; he looks, well [sic] tired."
    assert prompt_from(text, TRIGGER, "dog", replace=True) == text
    assert prompt_from("A man, a plan. Canal!", [], "dog", replace=False) == "A man, a plan. Canal!"


def test_class_tokens_fit_their_article():
    """An anime character, a unicorn."""
    assert prompt_from("a sks", TRIGGER, "anime_character", replace=True) == "an anime_character"
    assert prompt_from("an sks", TRIGGER, "unicorn", replace=True) == "a unicorn"
    assert prompt_from("the sks", TRIGGER, "otter", replace=True) == "the otter"


def test_prefix_and_suffix_stand_around_it_once():
    """They are tags like the others: what stands in the caption already is not said twice."""
    made = prompt_from(
        "sks, smile, masterpiece", TRIGGER, "dog", replace=True, prefix="masterpiece,", suffix="simple bg"
    )
    assert made == "masterpiece, dog, smile, simple bg"


@pytest.mark.parametrize("caption", ["sks", "(spyke_plasma_v1:1.2), ", ""])
@pytest.mark.parametrize("replace", [True, False])
def test_class_tokens_stand_for_a_caption_of_which_nothing_is_left(caption, replace):
    """Prefix and suffix alone would be a prompt for anything."""
    assert prompt_from(caption, TRIGGER, "dog", replace=replace, suffix="simple bg") in {
        "dog, simple bg",
        "(dog:1.2), simple bg",
    }
    assert prompt_from(caption, TRIGGER, "dog", replace=False, prefix="masterpiece") == "masterpiece, dog"
    assert prompt_from(caption, TRIGGER, "sks dog", replace=False, prefix="masterpiece") == "masterpiece"


def test_class_tokens_with_the_trigger_in_them_are_only_fallen_back_on():
    """The guard will say more about them."""
    assert prompt_from("sks, smile", TRIGGER, "sks dog", replace=True) == "smile"
    assert prompt_from("sks", TRIGGER, "sks dog", replace=True) == "sks dog"


def test_a_trigger_that_can_never_be_found_is_a_problem():
    """It would stay in every prompt, in silence."""
    with pytest.raises(JobError, match=r"trigger\[0\]: '!' has neither letters nor digits"):
        prompt_from("a", ["!"], "dog", replace=True)


@pytest.mark.parametrize(
    ("prompt", "made"),
    [
        ("saber (fate), smile", r"saber \(fate\), smile"),
        ("artoria_pendragon_(fate)", r"artoria_pendragon_\(fate\)"),
        (r"saber \(fate\)", r"saber \(fate\)"),
        ("(smile:1.2), ((red hair)), (a, b)", "(smile:1.2), ((red hair)), (a, b)"),
        ("a dog (red:1.2) hat", "a dog (red:1.2) hat"),
        (":(, smile, :)", ":(, smile, :)"),
        ("a (b (c))", "a (b (c))"),
    ],
)
def test_parentheses_of_a_name_are_escaped(prompt, made):
    """ComfyUI reads them as a weight of 1.1; weights that are meant stay, and a second call changes nothing."""
    assert escaped(prompt) == made
    assert escaped(made) == made


def test_tags_and_phrases_are_removed_whole():
    """As triggers are, with the words that only led to them."""
    caption = "sks, 1girl, red bandana, smile"
    assert without_phrases(caption, ["red bandana"]) == "sks, 1girl, smile"
    assert without_phrases("a girl with a red bandana, smiling", ["red bandana"]) == "a girl, smiling"
    assert without_phrases(caption, []) == caption


@pytest.mark.parametrize(
    ("caption", "made"),
    [
        ("sks standing in a field.", "a woman standing in a field."),
        ("sks woman standing", "a woman standing"),
        ("photo of a sks woman", "photo of a woman"),
        ("photo of an sks", "photo of a woman"),
        ("the sks smiles", "the woman smiles"),
        ("In this image we see sks.", "In this image we see a woman."),
    ],
)
def test_a_text_with_its_article_fits_a_sentence(caption, made):
    """No article and no class comes twice beside the other."""
    assert prompt_from(caption, TRIGGER, "a woman", replace=True) == made
