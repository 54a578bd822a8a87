"""Random workflows, built of the pieces that people use: nothing is silently wrong in any of them.

The graph is evaluated by a model of its own, as a server would: what text reaches each sampler, from which seed it
draws, and in which size its first latent begins.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reggen.workflow.graph import Graph
from reggen.workflow.reader import Reading, read_workflow

GUIDED = ("conditioning", "positive", "negative", "empty_conditioning")
WANTED = ("positive", "negative", "seed", "width", "height")


@dataclass
class Build:
    """A graph that grows; each text has a mark, so that it is found wherever it goes."""

    draw: Any
    graph: Graph = field(default_factory=dict)
    texts: int = 0

    def add(self, kind: str, /, **inputs: Any) -> str:
        node_id = str(len(self.graph) + 1)
        self.graph[node_id] = {"class_type": kind, "inputs": inputs}
        return node_id

    def of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def literal(self) -> str:
        self.texts += 1
        return f"OWN text {self.texts}"

    def text(self, depth: int = 0) -> Any:
        """A text: a literal, or a link to a node that gives one."""
        kind = (
            self.of("literal", "primitive", "concat", "wildcard", "switch", "replace", "show")
            if depth < 3
            else "literal"
        )
        match kind:
            case "primitive":
                return [self.add("PrimitiveStringMultiline", value=self.literal()), 0]
            case "concat":
                parts = {"string_a": self.text(depth + 1), "string_b": self.text(depth + 1)}
                return [self.add("StringConcatenate", **parts, delimiter=", "), 0]
            case "wildcard":
                text = self.literal()
                made = self.add(
                    "ImpactWildcardProcessor", wildcard_text=text, populated_text=text, mode="populate", seed=7
                )
                return [made, 0]
            case "switch":
                branches = {"on_true": self.text(depth + 1), "on_false": self.text(depth + 1)}
                flag = self.of(True, False, [self.add("PrimitiveBoolean", value=self.of(True, False)), 0])
                return [self.add("ComfySwitchNode", switch=flag, **branches), 0]
            case "replace":
                return [
                    self.add("StringReplace", string=self.text(depth + 1), find="x", replace=self.text(depth + 1)),
                    0,
                ]
            case "show":
                return [self.add("PreviewAny", source=self.text(depth + 1)), 0]
        return self.literal()

    def conditioning(self, clip: list[Any], depth: int = 0) -> list[Any]:
        kind = self.of("encode", "sdxl", "flux", "combine", "area", "guidance") if depth < 2 else "encode"
        match kind:
            case "sdxl":
                text = self.text()
                return [self.add("CLIPTextEncodeSDXL", clip=clip, text_g=text, text_l=text, width=1024, height=1024), 0]
            case "flux":
                return [
                    self.add("CLIPTextEncodeFlux", clip=clip, clip_l=self.text(), t5xxl=self.text(), guidance=3.5),
                    0,
                ]
            case "combine":
                parts = {f"conditioning_{number}": self.conditioning(clip, depth + 1) for number in (1, 2)}
                return [self.add("ConditioningCombine", **parts), 0]
            case "area":
                made = self.conditioning(clip, depth + 1)
                return [self.add("ConditioningSetArea", conditioning=made, width=64, height=64, x=0, y=0), 0]
            case "guidance":
                return [self.add("FluxGuidance", conditioning=self.conditioning(clip, depth + 1), guidance=3.5), 0]
        return [self.add("CLIPTextEncode", clip=clip, text=self.text()), 0]

    def number(self, value: int) -> Any:
        return self.of(value, [self.add("PrimitiveInt", value=value), 0])

    def passed_on(self, positive: list[Any], negative: list[Any]) -> tuple[list[Any], list[Any]]:
        """Both sides through a node that passes them on, by its own numbers of outputs."""
        sides = {"positive": positive, "negative": negative}
        match self.of("", "", "context", "controlnet", "crossed"):
            case "context":
                made = self.add("Context (rgthree)", **sides)
                return [made, 4], [made, 5]
            case "controlnet":
                made = self.add("ControlNetApplyAdvanced", **sides, strength=1.0)
                return [made, 0], [made, 1]
            case "crossed":
                made = self.add("ControlNetApplyAdvanced", positive=negative, negative=positive, strength=1.0)
                return [made, 1], [made, 0]
        return positive, negative

    def sampler(self, model: list[Any], clip: list[Any], latent: list[Any]) -> list[Any]:
        positive = self.conditioning(clip)
        negative = self.of("text", "zeroed")
        other = (
            self.conditioning(clip)
            if negative == "text"
            else [self.add("ConditioningZeroOut", conditioning=positive), 0]
        )
        positive, other = self.passed_on(positive, other)
        seed = self.number(self.draw(st.integers(0, 99)))
        settings = {"sampler_name": "euler", "scheduler": "normal"}
        if self.of(True, False):
            sides = {"positive": positive, "negative": other}
            return [
                self.add("KSampler", model=model, **sides, latent_image=latent, seed=seed, steps=4, cfg=7, **settings),
                0,
            ]
        guider = self.of(
            lambda: self.add("BasicGuider", model=model, conditioning=positive),
            lambda: self.add("CFGGuider", model=model, positive=positive, negative=other, cfg=7),
            lambda: self.add(
                "PerpNegGuider",
                model=model,
                positive=positive,
                negative=other,
                cfg=7,
                neg_scale=1.0,
                empty_conditioning=self.conditioning(clip),
            ),
        )()
        links = {
            "noise": [self.add("RandomNoise", noise_seed=seed), 0],
            "guider": [guider, 0],
            "sampler": [self.add("KSamplerSelect", sampler_name="euler"), 0],
            "sigmas": [self.add("BasicScheduler", model=model, scheduler="normal", steps=4, denoise=1.0), 0],
        }
        return [self.add("SamplerCustomAdvanced", **links, latent_image=latent), 0]


@st.composite
def workflows(draw: Any) -> Graph:
    build = Build(draw)
    loader = build.add("CheckpointLoaderSimple", ckpt_name="x.safetensors")
    model, clip, vae = ([loader, number] for number in range(3))
    if build.of(True, False):
        lora = build.add("Lora Loader (LoraManager)", text="<lora:detail:0.5>", model=model, clip=clip)
        model, clip = [lora, 0], [lora, 1]
    side = build.number(64)
    height = build.of(side, build.number(64))
    latent = [build.add("EmptyLatentImage", width=side, height=height, batch_size=1), 0]
    for turn in range(draw(st.integers(1, 2))):
        if turn:
            latent = [build.add("LatentUpscaleBy", samples=latent, scale_by=1.5), 0]
        latent = build.sampler(model, clip, latent)
    image = [build.add("VAEDecode", samples=latent, vae=vae), 0]
    if build.of(True, False):
        image = [build.add("ImageScale", image=image, width=128, height=128), 0]
    build.add("SaveImage", images=image, filename_prefix="x")
    return build.graph


# ---- a server's view of a graph


def text_of(graph: Graph, value: Any) -> str:
    """The text that a server would make of an input, without any knowledge of the reader."""
    if isinstance(value, str):
        return value
    inputs = graph[value[0]]["inputs"]
    match graph[value[0]]["class_type"]:
        case "PrimitiveStringMultiline":
            return text_of(graph, inputs["value"])
        case "StringConcatenate":
            return text_of(graph, inputs["string_a"]) + ", " + text_of(graph, inputs["string_b"])
        case "ImpactWildcardProcessor":
            return text_of(graph, inputs["populated_text"])
        case "StringReplace":
            return text_of(graph, inputs["string"]) + text_of(graph, inputs["replace"])
        case "PreviewAny":
            return text_of(graph, inputs["source"])
        case "ComfySwitchNode":
            return text_of(graph, inputs["on_true" if constant(graph, inputs["switch"]) else "on_false"])
    raise AssertionError(graph[value[0]])


def constant(graph: Graph, value: Any) -> Any:
    return constant(graph, graph[value[0]]["inputs"]["value"]) if isinstance(value, list) else value


def texts_of(graph: Graph, link: list[Any]) -> list[str]:
    """The texts of all encoders of a conditioning."""
    node = graph[link[0]]
    if node["class_type"] == "ConditioningZeroOut":
        return []
    if {"positive", "negative"} <= node["inputs"].keys():
        return texts_of(graph, node["inputs"]["positive" if link[1] in {0, 4} else "negative"])
    keys = [key for key in ("text", "text_g", "text_l", "clip_l", "t5xxl") if key in node["inputs"]]
    if keys:
        return [text_of(graph, node["inputs"][key]) for key in keys]
    return [text for key, one in node["inputs"].items() if key.startswith("cond") for text in texts_of(graph, one)]


def sampled(graph: Graph) -> list[tuple[list[str], int]]:
    """For each sampler: every text that reaches it, and its seed."""
    found = []
    for node in graph.values():
        inputs = node["inputs"]
        if node["class_type"] == "KSampler":
            texts = texts_of(graph, inputs["positive"]) + texts_of(graph, inputs["negative"])
            found.append((texts, constant(graph, inputs["seed"])))
        elif node["class_type"] == "SamplerCustomAdvanced":
            guider = graph[inputs["guider"][0]]["inputs"]
            sides = [guider[key] for key in GUIDED if key in guider]
            seed = constant(graph, graph[inputs["noise"][0]]["inputs"]["noise_seed"])
            found.append(([text for side in sides for text in texts_of(graph, side)], seed))
    return found


def bound(reading: Reading, seed: int) -> Graph:
    """The graph as it is posted: every binding set."""
    values = {
        "positive": "THE PROMPT",
        "negative": "THE NEGATIVE",
        "seed": seed,
        "width": 320,
        "height": 192,
        "batch": 1,
    }
    made = copy.deepcopy(reading.graph)
    for name, inputs in reading.bindings.items():
        for one in inputs if name in values else ():
            made[one.node]["inputs"][one.input] = values[name]
    return made


def answered(graph: Graph, draw: Any) -> Reading:
    """The reading with every question answered by one of the candidates that it offers."""
    named: dict[str, Any] = {}
    for _ in range(3):
        reading = read_workflow(graph, named, WANTED)
        if not reading.problems:
            return reading
        for problem in reading.problems:
            side = problem.key.rpartition(".")[2]
            offers = re.findall(rf"{side} = (\[.*?\]|\".*?\")", problem.hint)
            named[side] = json.loads(draw(st.sampled_from(offers)))
    raise AssertionError(f"still open: {reading.problems}")


@given(workflows(), st.data())
def test_nothing_is_silently_wrong(graph: Graph, data: st.DataObject) -> None:
    """No text reaches a sampler that was neither set nor told; every seed differs; the size is the one asked."""
    reading = answered(graph, data.draw)
    posted, again = bound(reading, 123_456), bound(reading, 654_321)
    told = {one.text for one in reading.account.also_sent}
    for texts, _ in sampled(posted):
        for text in texts:
            left = [f"OWN text {number}" for number in range(1, 99) if f"OWN text {number}" in text.replace("<", " ")]
            exact = [one for one in left if any(part.strip() == one for part in _parts(text))]
            assert set(exact) <= told, (text, told, reading.bindings)
    for (_, first), (_, second) in zip(sampled(posted), sampled(again), strict=True):
        assert first != second
    latent = next(node["inputs"] for node in posted.values() if node["class_type"] == "EmptyLatentImage")
    assert (constant(posted, latent["width"]), constant(posted, latent["height"])) == (320, 192)
    assert any("THE PROMPT" in text for texts, _ in sampled(posted) for text in texts)


def _parts(text: str) -> list[str]:
    """A text's marks apart: joined texts have no other separators than these."""
    return text.replace("OWN", "\nOWN").replace(",", "\n").splitlines()
