"""Collect the texts of one side of all samplers: those that one literal decides, and those that are a question."""

from __future__ import annotations

from dataclasses import dataclass, field

from reggen.errors import Problem
from reggen.workflow.graph import Graph, title
from reggen.workflow.samplers import Conditioning, Sampler, conditioning_of
from reggen.workflow.walk import Binding, is_setting, label, literals, text_sources

_SHOWN = 60  # letters of a text that are shown


@dataclass(slots=True)
class SideTexts:
    """The texts of the positive or the negative side.

    ``bound`` are the literals that decide one wholly; ``open`` those of which several make one; ``joins`` the inputs
    that replace such a join; ``rewritten_by`` the nodes that put words of their own in. ``kinds`` holds "text",
    "zeroed" and "none" as the samplers have it.
    """

    side: str
    bound: dict[Binding, None] = field(default_factory=dict)
    open: dict[Binding, None] = field(default_factory=dict)
    joins: dict[Binding, None] = field(default_factory=dict)
    rewritten_by: dict[str, None] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)
    encoders: dict[Binding, list[Binding]] = field(default_factory=dict)  # of a bound literal: the inputs it comes to

    @property
    def all(self) -> tuple[Binding, ...]:
        """Every literal of this side."""
        return tuple(self.bound | self.open)

    @property
    def kind(self) -> str:
        """The side as a whole: "text" where any sampler has one, else "zeroed" or "none"."""
        return next((kind for kind in ("text", "zeroed") if kind in self.kinds), "none")

    def question(self, graph: Graph) -> Problem:
        """Ask which input takes the prompt, with every candidate ready to be pasted."""
        several = len(self.open) > 1
        shown = [f"{self._answer(one)} for {quoted(graph, one)}" for one in self._candidates(graph)]
        shown += [f"{self._answer(one)}, which replaces {'them all' if several else 'it'}" for one in self.joins]
        if several and not self.joins:
            shown.append(f"{self._answer(*self.open)} for all of them")
        count = {0: "no text can be found behind it", 1: "one text makes it"}
        what = f"is open: {count.get(len(self.open), f'{len(self.open)} texts make it')}"
        if self.rewritten_by:
            what += f", rewritten by {', '.join(label(graph, one) for one in self.rewritten_by)}"
        return Problem(f"workflow.bindings.{self.side}", what, "choose in [workflow.bindings]: " + "; ".join(shown))

    def _candidates(self, graph: Graph) -> list[Binding]:
        """The open literals, without empty ones where there is something else to choose."""
        pasted = [one for one in self.open if one.input != "wildcard_text"]
        filled = [one for one in pasted if str(graph[one.node]["inputs"][one.input]).strip()]
        return filled if filled or self.joins else pasted

    def _answer(self, *chosen: Binding) -> str:
        """A line for the job file: the chosen inputs, and those of other samplers that are not open."""
        inputs = [f'"{one}"' for one in dict.fromkeys((*self.bound, *chosen))]
        return f"{self.side} = {inputs[0]}" if len(inputs) == 1 else f"{self.side} = [{', '.join(inputs)}]"


def quoted(graph: Graph, one: Binding) -> str:
    """A literal's node and its first words."""
    text = " ".join(str(graph[one.node]["inputs"][one.input]).split())
    return f"{label(graph, one.node)}: {text[:_SHOWN]!r}"


def side_texts(graph: Graph, samplers: list[Sampler], nodes: list[str], side: str) -> SideTexts:
    """The texts of one side of all samplers; without a sampler the titles of the nodes tell the sides."""
    texts = SideTexts(side)
    for sampler in samplers:
        conditioning = conditioning_of(graph, sampler, side)
        if not conditioning.exists or conditioning.zeroed:
            texts.kinds.add("zeroed" if conditioning.zeroed else "none")
            continue
        texts.kinds.add("text")
        _add(graph, texts, conditioning)
    if not samplers:
        _add_titled(graph, texts, nodes)
    return texts


def _add(graph: Graph, texts: SideTexts, conditioning: Conditioning) -> None:
    found = {
        one: text_sources(graph, one.node, one.input, texts.side) for encoder in conditioning.texts for one in encoder
    }
    several = len(conditioning.texts) > 1 and len({sources.literals for sources in found.values()}) > 1
    for one, sources in found.items():
        single = () if several else sources.as_one()
        texts.bound |= dict.fromkeys(single)
        for literal in single:
            texts.encoders.setdefault(literal, []).append(one)
        if not single:
            texts.open |= dict.fromkeys(sources.literals)
            texts.rewritten_by |= dict.fromkeys(sources.rewritten_by)
            if not several and sources.literals != (one,):
                texts.joins[one] = None


def _add_titled(graph: Graph, texts: SideTexts, nodes: list[str]) -> None:
    """Take what is titled "positive" or "negative"; a single text is the positive one; the rest is open."""
    found = [one for one, _ in literals(graph, nodes) if not is_setting(one)]
    titles = {one: title(graph[one.node]).lower() for one in found}
    other = "negative" if texts.side == "positive" else "positive"
    if titled := [one for one in found if texts.side in titles[one]]:
        texts.bound |= dict.fromkeys(titled)
    elif texts.side == "positive" and len(found) == 1:
        texts.bound |= dict.fromkeys(found)
    else:
        texts.open |= dict.fromkeys(one for one in found if other not in titles[one])
