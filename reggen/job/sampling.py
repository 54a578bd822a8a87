"""Settings of the sampler and of the models that it runs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, Tag, WithJsonSchema, model_validator

from reggen.job.dataset import word_or_number
from reggen.job.section import Section
from reggen.model_families import CLASSIC, FAMILIES, Family
from reggen.wording import did_you_mean

SEED_LIMIT = 1 << 53  # ComfyUI's page reads seeds as doubles: a larger one cannot be reproduced by hand
SIDES = (64, 16_384)
"""The shortest and the longest side of an image, in pixels."""

Side = Annotated[int, Field(ge=SIDES[0], le=SIDES[1], multiple_of=8)]
FileName = Annotated[str, Field(min_length=1, max_length=500)]
_FAMILY_SCHEMA = WithJsonSchema({"type": "string", "enum": list(FAMILIES)})


def _known_family(name: str) -> str:
    if name not in FAMILIES:
        hint = did_you_mean(name, FAMILIES)
        raise ValueError(f"{name!r} is not a family" + (f"; {hint}" if hint else f": {', '.join(FAMILIES)}"))
    return name


class Sampling(Section):
    """Settings of the sampler. Left out: the workflow's own value, or the built-in graph's default."""

    family: Annotated[str, AfterValidator(_known_family), _FAMILY_SCHEMA] | None = Field(
        None, description="A model family: its graph and values are used instead of the classic ones."
    )
    checkpoint: str | None = Field(None, min_length=1, description="A file name as ComfyUI lists it.")
    model: str | None = Field(
        None, min_length=1, description="With a family: a file of models/diffusion_models, .gguf too."
    )
    text_encoders: tuple[FileName, ...] = Field(
        (), max_length=4, description="With a family: files of models/text_encoders. Left out: the family's usual ones."
    )
    vae: str | None = Field(
        None, min_length=1, description="A file of models/vae. Left out: the checkpoint's, or the family's usual one."
    )
    weight_dtype: Literal["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"] = Field(
        "default", description="For model: the type its weights are held in."
    )
    shift: float | None = Field(None, ge=0, le=100, description="Left out: the family's.")
    clip_skip: int | None = Field(
        None,
        ge=1,
        le=24,
        description="The text encoder's last layer that is used, from the end; 2 for anime models.",
    )
    width: int | None = Field(None, ge=SIDES[0], le=SIDES[1], multiple_of=8, description="Pixels; a multiple of 8.")
    height: int | None = Field(None, ge=SIDES[0], le=SIDES[1], multiple_of=8, description="Pixels; a multiple of 8.")
    steps: int | None = Field(None, ge=1, le=10_000)
    cfg: float | None = Field(None, ge=0, le=100, description="Classifier-free guidance of the sampler or guider.")
    guidance: float | None = Field(
        None, ge=0, le=100, description="Of distilled models such as Flux (FluxGuidance), whose cfg stays 1."
    )
    sampler: str | None = Field(None, min_length=1, description="As ComfyUI names it: euler_ancestral.")
    scheduler: str | None = Field(None, min_length=1, description="As ComfyUI names it: normal, karras.")
    seed: int | None = Field(
        None,
        ge=0,
        lt=SEED_LIMIT,
        description="Of the first image; the n-th gets seed + n - 1. Each further class begins 2**32 later.",
    )
    batch: Annotated[
        Annotated[int, Field(ge=1, le=64), Tag("int")] | Annotated[Literal["auto"], Tag("word")],
        word_or_number("auto"),
    ] = Field(
        1, description="Images made by one prompt (EmptyLatentImage.batch_size); 'auto': as many as are made fastest."
    )
    save: Literal["output", "temp"] = Field(
        "output",
        description="temp: the server keeps no copy (PreviewImage instead of SaveImage), and compresses less.",
    )
    size: Literal["match"] | None = Field(
        None, description="'match': each image in the bucket of a training image, in the same proportions."
    )

    @property
    def model_family(self) -> Family:
        """The family, or the classic graph's values."""
        return FAMILIES[self.family] if self.family else CLASSIC

    @property
    def needs_own_graph(self) -> bool:
        """If the classic graph does not do."""
        return bool(self.family or self.vae or self.clip_skip)

    @model_validator(mode="after")
    def _files_fit_the_family(self) -> Self:
        for name in ("model", "text_encoders", "shift"):
            if getattr(self, name) and not self.family:
                raise ValueError(f"{name} goes with a family: {', '.join(FAMILIES)}")
        if self.model and self.checkpoint:
            raise ValueError("model and checkpoint are two ways to name one thing: leave one of the two out")
        if self.model and not self.vae and not self.model_family.vae:
            raise ValueError(
                f"a {self.family} model alone needs vae as well, or use a checkpoint that holds everything"
            )
        return self

    @model_validator(mode="after")
    def _sides_fit_the_family(self) -> Self:
        multiple = self.model_family.multiple
        for name in ("width", "height"):
            if (side := getattr(self, name)) and side % multiple:
                low = side // multiple * multiple
                raise ValueError(
                    f"{name} {side} is not a multiple of {multiple}, as {self.family} needs: {low} or {low + multiple}"
                )
        return self

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.size and (self.width or self.height):
            raise ValueError("size = 'match' takes the sizes from the training set: leave out width and height")
        return self
