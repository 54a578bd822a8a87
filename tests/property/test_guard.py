"""What holds for every guard: disguises do not help, and innocent words stay innocent."""

from hypothesis import example, given
from hypothesis import strategies as st

from reggen.prompts.guard import Guard
from reggen.prompts.spelling import folded, is_near, runs, tokens

letters = st.from_regex("[a-j][a-j0-3]{0,7}", fullmatch=True)
phrases = st.lists(letters, min_size=1, max_size=4)
joints = st.sampled_from([" ", "_", "-", "  ", " (", ") ", ":1.2) ", "\n", "/"])


@given(phrases, st.data())
def test_a_phrase_is_found_in_every_dress(phrase, data):
    """Whatever joins its words, in whatever case, with whatever around it."""
    dressed = phrase[0]
    for word in phrase[1:]:
        dressed += data.draw(joints) + data.draw(st.sampled_from([word, word.upper(), word.capitalize()]))
    around = data.draw(st.sampled_from(["{}", "({}:1.1)", "x, {}, y", "zzz {} zzz", "<lora:{}:1>", "\u5f7c{}\u306f"]))
    text = around.format(dressed)
    offences = Guard([" ".join(phrase)]).find_all(text)
    assert any(folded(dressed) == folded(one.found) for one in offences)


@given(st.lists(phrases, max_size=4), st.text(max_size=60))
@example([["\u0130x"]], "\u0130x")
def test_an_offence_stands_where_it_says(forbid, text):
    """Its place cuts exactly what it reports out of the text, whatever letters are in it."""
    for offence in Guard([" ".join(phrase) for phrase in forbid]).find_all(text):
        assert text[offence.start : offence.end] == offence.found != ""


@given(phrases, st.lists(st.text("klmnop", min_size=1, max_size=8)))
def test_words_that_share_nothing_are_never_an_offence(phrase, others):
    """No false alarm from words of other letters."""
    assert Guard([" ".join(phrase)]).find(" ".join(others)) is None


@given(st.lists(phrases, max_size=4), st.lists(st.text("abcj ,", max_size=20), max_size=6))
def test_what_was_seen_before_changes_nothing(forbid, texts):
    """The words a guard remembers are a matter of speed only."""
    entries = [" ".join(phrase) for phrase in forbid]
    seasoned = Guard(entries)
    for text in texts:
        assert seasoned.find_all(text) == Guard(entries).find_all(text)


@given(st.lists(phrases, max_size=4), st.none() | st.text("abc ,:()", max_size=20))
def test_the_negative_prompt_is_completed_once(forbid, negative):
    """Completing it a second time adds nothing, and what was there stays at its beginning."""
    guard = Guard([" ".join(phrase) for phrase in forbid])
    once = guard.extend_negative(negative)
    assert guard.extend_negative(once) == once
    assert once.startswith((negative or "").strip().rstrip(", "))


@given(st.text("abc1", min_size=1, max_size=7), st.text("abc1", min_size=1, max_size=7))
def test_near_is_damerau_levenshtein_of_one_at_most(one, other):
    """Against the definition, with its two restrictions."""

    def distance(here: str, there: str) -> int:
        if not here or not there:
            return len(here) + len(there)
        costs = [distance(here[1:], there) + 1, distance(here, there[1:]) + 1]
        costs.append(distance(here[1:], there[1:]) + (here[0] != there[0]))
        if len(here) > 1 and len(there) > 1 and here[:2] == there[1::-1]:
            costs.append(distance(here[2:], there[2:]) + 1)
        return min(costs)

    digits = ["".join(letter for letter in word if letter.isdigit()) for word in (one, other)]
    if distance(one, other) > 1 or one[0] != other[0] or digits[0] != digits[1]:
        assert not is_near(one, other)
    elif not any(digits):
        assert is_near(one, other)


@given(st.text(max_size=60))
def test_both_ways_of_cutting_a_text_agree(text):
    """The fast look and the close one see the same words."""
    assert bool(tokens(folded(text))) == bool(runs(text))
