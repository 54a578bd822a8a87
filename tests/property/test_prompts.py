"""What holds for all templates: coverage, shares and independence of the order of asking."""

import re
from collections import Counter
from contextlib import suppress
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from reggen.errors import JobError
from reggen.prompts.generator import PromptGenerator
from reggen.prompts.matrix import Matrix
from reggen.prompts.permute import Shares, partner, shuffled
from reggen.prompts.template import escape

seeds = st.integers(0, 2**53)
words = st.text("abcdefgh", min_size=1, max_size=3)


def joined(parts: list[str]) -> str:
    return "{" + "|".join(parts) + "}"


choices = st.recursive(words, lambda inner: st.lists(inner, min_size=1, max_size=3).map(joined), max_leaves=5)
templates = st.lists(choices | st.just("{2$$p|q|r}") | st.just("{2::s|t}"), min_size=1, max_size=3).map(" ".join)


@settings(deadline=None)
@given(st.integers(1, 300), seeds)
def test_a_shuffle_is_a_permutation(size, seed):
    """Every place is taken once."""
    assert sorted(shuffled(index, size, str(seed)) for index in range(size)) == list(range(size))


@given(st.integers(1, 10**40), st.data())
def test_a_huge_shuffle_stays_in_its_range_and_tells_places_apart(size, data):
    """However many combinations there are."""
    one, other = (data.draw(st.integers(0, size - 1)) for _ in range(2))
    places = shuffled(one, size, "k"), shuffled(other, size, "k")
    assert all(0 <= place < size for place in places)
    assert (places[0] == places[1]) == (one == other)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any), st.integers(0, 300))
def test_shares_are_exact_over_a_period_and_close_everywhere(weights, slots):
    """No part is ever a whole slot and a bit away from its share, and over a period it has exactly its share."""
    shares = Shares(weights)
    counts = Counter(shares.turn(index)[0] for index in range(slots))
    for part, weight in enumerate(weights):
        share = Fraction(weight, sum(weights)) * slots
        assert abs(counts[part] - share) < 2
        if slots % shares.period == 0:
            assert counts[part] == share


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any))
def test_each_part_counts_its_own_slots(weights):
    """The turn of a part says how many slots it had before."""
    shares, had = Shares(weights), Counter[int]()
    for index in range(3 * shares.period):
        part, turn = shares.turn(index)
        assert turn == had[part]
        had[part] += 1


def test_weights_finer_than_the_period_are_rounded():
    """A start stays a matter of milliseconds, whatever the weights."""
    shares = Shares([10**9, 10**9 + 7, 1])
    assert shares.period <= 1 << 17
    assert {shares.turn(index)[0] for index in range(shares.period)} == {0, 1, 2}


@given(st.integers(1, 12), st.integers(1, 12))
def test_all_pairs_meet_once(size, other):
    """And every `other` turns hold each of the others once."""
    turns = [partner(turn, size, other) for turn in range(size * other)]
    assert len({(turn % size, one) for turn, one in enumerate(turns)}) == size * other
    for start in range(0, size * other, other):
        assert len(set(turns[start : start + other])) == other


@settings(deadline=None)
@given(templates, seeds, st.integers(1, 3))
def test_every_entry_comes_once_in_every_round(template, seed, rounds):
    """Each combination as often as its weights say, in one round as in the next."""
    generator = PromptGenerator([template], seed=seed)
    size = generator.round_length
    first = Counter((generator.prompt(index), generator.values(index)) for index in range(size))
    later = Counter(
        (generator.prompt(index), generator.values(index)) for index in range(rounds * size, rounds * size + size)
    )
    assert first == later
    written = re.findall("[a-z]+", template)
    if len(set(written)) == len(written):  # otherwise what is chosen does not tell all combinations apart
        assert len(first) == generator.combinations


@given(templates, seeds, st.lists(st.integers(0, 10**12), max_size=10))
def test_a_prompt_comes_from_job_and_slot_alone(template, seed, asked):
    """Not from the order, nor from what was asked before: law 8."""
    one, other = (PromptGenerator([template, "x {a|b}"], seed=seed) for _ in range(2))
    assert [one.at(index, 6) for index in asked] == [other.at(index, 6) for index in reversed(asked)][::-1]


@settings(deadline=None)
@given(st.integers(1, 7), st.integers(1, 4), st.integers(1, 3), seeds)
def test_prompts_and_settings_are_covered_alone_and_together(prompts, samplers, sizes, seed):
    """Prompts in each of their rounds, settings in each of theirs, and all pairs in one great round."""
    generator = PromptGenerator([joined([f"p{number}" for number in range(prompts)])], seed=seed)
    matrix = Matrix({"sampler": range(samplers), "size": range(sizes)}, seed=seed)
    others, total = samplers * sizes, prompts * samplers * sizes
    slots = [matrix.with_prompt(generator, index) for index in range(2 * total)]
    seen = [(prompt.text, tuple(chosen.values())) for prompt, chosen in slots]
    for start in range(0, 2 * total, prompts):
        assert len({text for text, _ in seen[start : start + prompts]}) == prompts
    for start in range(0, 2 * total, others):
        assert len({chosen for _, chosen in seen[start : start + others]}) == others
    assert len(set(seen[:total])) == len(set(seen[total:])) == total


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "{a|b}", "{2$$a|b|c} {d|e}"]), min_size=1, max_size=3), st.integers(1, 4))
def test_every_template_meets_every_setting(templates, others):
    """Also when several templates of different sizes share the slots: pairs of one template come once each."""
    generator = PromptGenerator(templates)
    pairs: dict[int, list[tuple[str, int]]] = {}
    for index in range(len(templates) * 6 * others):
        prompt = generator.at(index, others)
        pairs.setdefault(prompt.template, []).append((prompt.text, prompt.partner))
    for number, met_ones in pairs.items():
        size = PromptGenerator([templates[number]]).round_length * others
        assert len(set(met_ones[:size])) == size


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), seeds)
def test_a_matrix_alone_is_covered_round_by_round(one, other, seed):
    """Each combination once before any comes twice."""
    matrix = Matrix({"x": range(one), "y": range(other)}, seed=seed)
    for start in (0, 5 * one * other):
        assert len({tuple(matrix.at(start + index).values()) for index in range(one * other)}) == one * other


@given(st.text("ab{}|$%#_\\ ,~@!:12", max_size=20) | st.text(max_size=20))
def test_an_escaped_text_is_its_own_template(text):
    """Captions become templates without being read as such."""
    assert PromptGenerator([escape(text)]).prompt(0) == text


@settings(deadline=None, max_examples=300)
@given(st.text("ab{}|$%#_\\ ,~@!:12-", max_size=30))
def test_whatever_is_written_is_read_or_is_a_problem(text):
    """No template ends in a traceback."""
    with suppress(JobError):
        generator = PromptGenerator([text], {"a": ("x",), "b": ("__a__", "y")})
        prompts = {(generator.prompt(index), generator.values(index)) for index in range(generator.round_length)}
        assert len(prompts) <= generator.combinations


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(templates, st.integers(1, 3)), min_size=1, max_size=2))
def test_a_round_is_over_when_every_combination_has_come(templates):
    """And not a slot before."""
    generator = PromptGenerator(templates)
    within = {generator.prompt(index) for index in range(generator.round_length)}
    assert {generator.prompt(index) for index in range(3 * generator.round_length)} == within
    last = generator.at(generator.round_length - 1)
    turns = sum(generator.at(index).template == last.template for index in range(generator.round_length))
    assert turns == PromptGenerator([templates[last.template][0]]).round_length
