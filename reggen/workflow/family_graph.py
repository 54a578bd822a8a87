"""Build the text-to-image graph of a model family, as ComfyUI's own templates do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reggen.model_families import Family
from reggen.workflow.graph import Graph
from reggen.workflow.walk import Binding

_CLIP_LOADERS = {1: "CLIPLoader", 2: "DualCLIPLoader", 3: "TripleCLIPLoader", 4: "QuadrupleCLIPLoader"}


@dataclass(frozen=True, slots=True)
class FamilyFiles:
    """The files and options that a job names; what is left out is the family's. ``checkpoint`` or ``model`` is one."""

    checkpoint: str | None = None
    model: str | None = None
    text_encoders: tuple[str, ...] = ()
    vae: str | None = None
    weight_dtype: str = "default"
    clip_skip: int | None = None
    shift: float | None = None
    guidance: float | None = None


def family_graph(family: Family, files: FamilyFiles) -> Graph:
    """The text-to-image graph of a family; its texts, seed and size are to be set."""
    return _Builder(family, files).build()


def usual_files(graph: Graph, files: FamilyFiles) -> frozenset[Binding]:
    """The inputs of a family's graph that name text encoders and a VAE which the job leaves out."""
    keys = (*(() if files.text_encoders else ("clip_name",)), *(() if files.vae else ("vae_name",)))
    return frozenset(
        Binding(node_id, key) for node_id, node in graph.items() for key in node["inputs"] if key.rstrip("1234") in keys
    )


@dataclass(slots=True)
class _Builder:
    family: Family
    files: FamilyFiles
    graph: Graph = field(default_factory=dict)

    def build(self) -> Graph:
        model, clip, vae = self._loaders()
        for place, kind, inputs in self.family.extra:
            if place == "clip":
                clip = self._add(kind, clip=clip, **dict(inputs))
            else:
                model = self._add(kind, model=model, **dict(inputs))
        if self.files.clip_skip:
            clip = self._add("CLIPSetLastLayer", clip=clip, stop_at_clip_layer=-self.files.clip_skip)
        if self.family.shift:
            kind, usual = self.family.shift
            model = self._add(kind, model=model, shift=usual if self.files.shift is None else self.files.shift)
        positive, negative = self._conditionings(clip)
        width, height = self.family.native
        latent = self._add(
            self.family.latent, width=width, height=height, batch_size=1, **dict(self.family.latent_inputs)
        )
        samples = (self._custom if self.family.custom else self._sampler)(model, positive, negative, latent)
        image = self._add("VAEDecode", samples=samples, vae=vae)
        self._add("SaveImage", images=image, filename_prefix="reggen")
        return self.graph

    def _add(self, kind: str, /, *, called: str = "", **inputs: Any) -> list[Any]:
        """Add a node; its first output as a link."""
        node_id = str(len(self.graph) + 1)
        self.graph[node_id] = {"class_type": kind, "inputs": inputs} | ({"_meta": {"title": called}} if called else {})
        return [node_id, 0]

    def _loaders(self) -> tuple[list[Any], list[Any], list[Any]]:
        """The links to model, text encoders and VAE."""
        if self.files.model is None:
            node_id, _ = self._add("CheckpointLoaderSimple", ckpt_name=self.files.checkpoint or "")
            model, clip, vae = ([node_id, number] for number in range(3))
        else:
            model, clip, vae = self._model(self.files.model), [], []
        if self.files.text_encoders or not clip:
            clip = self._encoders(self.files.text_encoders or self.family.encoders)
        if self.files.vae or not vae:
            vae = self._add("VAELoader", vae_name=self.files.vae or self.family.vae)
        return model, clip, vae

    def _model(self, name: str) -> list[Any]:
        if _is_gguf(name):
            return self._add("UnetLoaderGGUF", unet_name=name)
        return self._add("UNETLoader", unet_name=name, weight_dtype=self.files.weight_dtype)

    def _encoders(self, names: Sequence[str]) -> list[Any]:
        kind = _CLIP_LOADERS[len(names)] + ("GGUF" if any(map(_is_gguf, names)) else "")
        keys = ["clip_name"] if len(names) == 1 else [f"clip_name{number + 1}" for number in range(len(names))]
        typed = {"type": self.family.clip_type} if len(names) < 3 else {}  # the larger loaders have none
        return self._add(kind, **dict(zip(keys, names, strict=True)), **typed)

    def _conditionings(self, clip: list[Any]) -> tuple[list[Any], list[Any]]:
        positive = self._add("CLIPTextEncode", called="Positive Prompt", text="", clip=clip)
        negative: list[Any] = []
        if self.family.negative == "zeroed":
            negative = self._add("ConditioningZeroOut", conditioning=positive)
        elif self.family.negative == "text":
            negative = self._add("CLIPTextEncode", called="Negative Prompt", text="", clip=clip)
        guidance = self.family.guidance if self.files.guidance is None else self.files.guidance
        if guidance is not None:
            positive = self._add("FluxGuidance", conditioning=positive, guidance=guidance)
        return positive, negative

    def _sampler(self, model: list[Any], positive: list[Any], negative: list[Any], latent: list[Any]) -> list[Any]:
        family = self.family
        return self._add(
            "KSampler", seed=0, steps=family.steps, cfg=family.cfg, sampler_name=family.sampler,
            scheduler=family.scheduler, denoise=1.0, model=model, positive=positive, negative=negative,
            latent_image=latent,
        )  # fmt: skip

    def _custom(self, model: list[Any], positive: list[Any], negative: list[Any], latent: list[Any]) -> list[Any]:
        family, (width, height) = self.family, self.family.native
        if family.custom == "BasicGuider":
            guider = self._add("BasicGuider", model=model, conditioning=positive)
        else:
            guider = self._add(family.custom, model=model, positive=positive, negative=negative, cfg=family.cfg)
        sigmas = self._add(family.sigmas, steps=family.steps, width=width, height=height)
        noise, sampler = (
            self._add("RandomNoise", noise_seed=0),
            self._add("KSamplerSelect", sampler_name=family.sampler),
        )
        return self._add(
            "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=latent
        )


def _is_gguf(name: str) -> bool:
    return name.lower().endswith(".gguf")
