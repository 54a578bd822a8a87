"""What holds for every prompt made from a caption."""

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from reggen.prompts.from_caption import _tags, prompt_from
from reggen.prompts.guard import Guard
from reggen.prompts.spelling import folded

TRIGGERS = ["sks", "red bandana", "spyke_plasma_v1", "a b"]
PIECES = re.findall(
    r"\S+",
    """
    sks SKS red bandana spyke plasma v1 a an the photo of and standing boy otter b dog 10,000 's . :
    , , , _ - ( ) (( )) [ ] :1.2) \\( \\) :( :) <lora: :0.8> > embedding: \uff0c
    """,
)
pieces = st.sampled_from([*PIECES, " ", "  ", ", ", "\n"])
captions = (
    st.lists(pieces, max_size=14).map("".join) | st.lists(pieces, max_size=14).map(" ".join) | st.text(max_size=30)
)
class_tokens = st.sampled_from(["dog", "a dog", "anime_character", "b", "bandana", "plasma v1", "dog, animal"])


@settings(deadline=None, max_examples=500)
@given(
    captions,
    class_tokens,
    st.booleans(),
    st.sampled_from(["", "best quality,", "photo of"]),
    st.sampled_from(["", "dog"]),
)
@example("b a b", "b", True, "", "")
def test_a_prompt_is_clean(caption, words, replace, prefix, suffix):
    """No trigger, no tag twice, no empty tag, never empty; and made again it is the same."""
    made = prompt_from(caption, TRIGGERS, words, replace=replace, prefix=prefix, suffix=suffix)
    assert Guard(TRIGGERS).find(made) is None
    tags = list(_tags(made))
    assert all(tags)
    assert len({folded(tag) for tag in tags}) == len(tags)
    assert made == " ".join(made.split())
    assert prompt_from(made, TRIGGERS, words, replace=replace, prefix=prefix, suffix=suffix) == made


@given(
    st.lists(st.sampled_from(["1boy", "red hair", "smile", "sky", "looking at viewer"]), min_size=1, unique=True),
    st.data(),
)
def test_only_the_trigger_is_taken_from_a_list_of_tags(tags, data):
    """All other tags stay, in their order."""
    place = data.draw(st.integers(0, len(tags)))
    caption = ", ".join([*tags[:place], "spyke_plasma_v1", *tags[place:]])
    assert prompt_from(caption, ["spyke plasma v1"], "dog", replace=False) == ", ".join(tags)
    replaced = ", ".join([*tags[:place], "dog", *tags[place:]])
    assert prompt_from(caption, ["spyke plasma v1"], "dog", replace=True) == replaced


@given(st.text(st.characters(exclude_characters=",\uff0c()[]", exclude_categories=["Cs"]), max_size=40))
def test_a_text_without_commas_and_trigger_is_kept(text):
    """But for its spaces."""
    assert prompt_from(text, [], "dog", replace=True) == (" ".join(text.split()) or "dog")
