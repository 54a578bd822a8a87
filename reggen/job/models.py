"""The models of a job file: one for each table, frozen and validated.

These models are the single source of the job file's form: its JSON schema and its error messages are made from them
(see `reggen.job.loader` and `reggen.job.validation`).
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from reggen.geometry import Size
from reggen.job.cross_checks import cross_check
from reggen.job.dataset import Dataset
from reggen.job.sampling import SIDES, Sampling, Side
from reggen.job.section import LONGEST_PROMPT, ExpandedPath, FileNamePart, Section
from reggen.job.servers import Notify, Server
from reggen.kohya.buckets import Bucketing
from reggen.kohya.captions import CaptionRules
from reggen.kohya.validation import ValidationSplit

Phrase = Annotated[str, Field(max_length=200)]
Pixels = Annotated[int, Field(ge=1, le=SIDES[1])]
_BucketSide = Annotated[int, Field(ge=1, le=65_536)]
_NO_RESOLUTION: Size = (512, 512)  # stands where none is known; no bucket is made of it
_CAPTION_EXTENSIONS = (".caption", ".txt")

ImageSize = Size | Literal["training", "matrix", "workflow"]
"""Width and height of all images in pixels, or what decides on the size of each."""


class Weighted(Section):
    """One positive prompt with a weight."""

    text: str = Field(description="The prompt.")
    weight: float = Field(1.0, gt=0, le=1_000_000, description="How often it comes, relative to the others.")


Positive = str | tuple[str | Weighted, ...]


class Prompts(Section):
    """Texts that the images are made from."""

    positive: Positive | None = Field(
        None, description="A prompt, or a list of them gone through in turn; {a|b} and __wildcard__ are filled in."
    )
    negative: str | None = Field(None, max_length=LONGEST_PROMPT, description="One prompt for all images.")
    wildcards: ExpandedPath | None = Field(None, description="The folder of the wildcard files: __hats__ is hats.txt.")
    source: Literal["captions"] | None = Field(
        None, alias="from", description="'captions': the training captions, with the trigger replaced or removed."
    )
    prefix: str = Field("", max_length=LONGEST_PROMPT, description="With from: tags put before each caption.")
    suffix: str = Field("", max_length=LONGEST_PROMPT, description="With from: tags put after each caption.")
    replace: bool | Annotated[str, Field(min_length=1, max_length=200)] = Field(
        True,
        description="With from: the class tokens take the trigger's place; false: it is taken out; a text: that does.",
    )
    remove: tuple[Phrase, ...] = Field(
        (), description="With from: tags and phrases that are taken out of each caption: ['red bandana']."
    )
    escape: bool = Field(
        True, description="With from: bare parentheses in a tag, 'saber (fate)', are escaped, as a weight is not meant."
    )
    weights: dict[str, Annotated[float, Field(ge=0, le=1_000)]] = Field(
        default_factory=dict,
        description="With from: file name patterns and how much more often such images come: '*closeup*' = 2.",
    )

    @field_validator("positive")
    @classmethod
    def _is_not_empty(cls, value: Positive | None) -> Positive | None:
        prompts = (value,) if isinstance(value, str) else value
        texts = [one if isinstance(one, str) else one.text for one in prompts or ()]
        if prompts is not None and not (texts and all(map(str.strip, texts))):
            raise ValueError("a positive prompt must not be empty")
        return value

    @property
    def positives(self) -> tuple[tuple[str, float], ...]:
        """The positive prompts with their weights; empty when the workflow's own, or the captions, are used."""
        given = (self.positive,) if isinstance(self.positive, str) else self.positive or ()
        return tuple((one.text, one.weight) if isinstance(one, Weighted) else (one, 1.0) for one in given)


class Training(Section):
    """The training set that the images are made for, as on the trainer's command line."""

    folder: ExpandedPath | None = Field(None, description="The folder given to the trainer as --train_data_dir.")
    config: ExpandedPath | None = Field(None, description="Instead of it: the file given as --dataset_config.")
    repeats: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="With folder: the images are in the folder itself, each repeated so often."
    )
    trigger: tuple[Phrase, ...] = Field(
        (), description="The subject's trigger words. None may be in a prompt or caption."
    )
    base: str | None = Field(None, min_length=1, description="The checkpoint that is trained.")
    caption_extension: Literal[".caption", ".txt"] = Field(".caption", description="--caption_extension.")
    caption_prefix: str = Field("", max_length=LONGEST_PROMPT, description="--caption_prefix: put before each caption.")
    caption_suffix: str = Field("", max_length=LONGEST_PROMPT, description="--caption_suffix: put after each caption.")
    enable_wildcard: bool = Field(
        False, description="--enable_wildcard: each line of a caption file is a caption, {a|b} is one of the two."
    )
    resolution: Pixels | tuple[Pixels, Pixels] | None = Field(
        None, description="--resolution: 512 or [512, 768]; kohya requires it, here or in the config."
    )
    enable_bucket: bool = Field(
        True, description="--enable_bucket. Left out: on with folder; with config as that says, else off, as in kohya."
    )
    min_bucket_reso: _BucketSide = Field(256, description="--min_bucket_reso.")
    max_bucket_reso: _BucketSide = Field(1024, description="--max_bucket_reso.")
    bucket_reso_steps: _BucketSide = Field(64, description="--bucket_reso_steps.")
    bucket_no_upscale: bool = Field(False, description="--bucket_no_upscale.")
    validation_split: float = Field(
        0.0, ge=0, le=1, description="--validation_split: the part of the images that is set aside."
    )
    validation_seed: int | None = Field(None, description="--validation_seed: which images these are.")

    @model_validator(mode="after")
    def _without_buckets_unless_enabled(self) -> Self:
        """With a config that is silent on buckets there are none, unless kohya's command line enables them."""
        if self.config is not None and not self.says_buckets:
            self.__dict__["enable_bucket"] = False  # not among the fields that were set
        return self

    @property
    def says_buckets(self) -> bool:
        """True where the job itself names enable_bucket."""
        return "enable_bucket" in self.model_fields_set

    @model_validator(mode="after")
    def _is_a_folder_or_a_config(self) -> Self:
        if (self.folder is None) == (self.config is None):
            raise ValueError("give the training set either as folder or as config")
        if self.config is not None and self.repeats is not None:
            raise ValueError("leave repeats out: a config has num_repeats for each of its folders")
        return self

    @property
    def pixels(self) -> Size | None:
        """The resolution as width and height; None where the job does not say it."""
        return (self.resolution, self.resolution) if isinstance(self.resolution, int) else self.resolution

    @property
    def command_line_captions(self) -> CaptionRules:
        """Caption options on the trainer's command line; a config's own go over them."""
        return CaptionRules(
            self.caption_extension,
            wildcard=self.enable_wildcard,
            prefix=self.caption_prefix,
            suffix=self.caption_suffix,
        )

    @property
    def command_line_bucketing(self) -> Bucketing:
        """Bucket options on the trainer's command line; a config's own go over them."""
        return Bucketing(
            self.pixels or _NO_RESOLUTION,
            self.enable_bucket,
            self.min_bucket_reso,
            self.max_bucket_reso,
            self.bucket_reso_steps,
            self.bucket_no_upscale,
            is_known=self.pixels is not None,
        )

    @property
    def command_line_validation(self) -> ValidationSplit:
        """The validation split on the trainer's command line; a config's own goes over it."""
        return ValidationSplit(self.validation_split, self.validation_seed)


class Guarding(Section):
    """Words that must not be in a prompt, a caption or the class tokens."""

    forbid: tuple[Phrase, ...] = Field((), description="Words and phrases; plurals and near spellings are included.")
    allow: tuple[Phrase, ...] = Field((), description="Words that are near a forbidden one and innocent.")
    negative: bool = Field(False, description="Add them, and the trigger, to the negative prompt.")


class Axes(Section):
    """Settings that are gone through: every combination of one value from each comes up."""

    checkpoint: tuple[str, ...] = ()
    sampler: tuple[str, ...] = ()
    scheduler: tuple[str, ...] = ()
    steps: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = ()
    cfg: tuple[Annotated[float, Field(ge=0, le=100)], ...] = ()
    size: tuple[tuple[Side, Side], ...] = Field((), description="Width and height in pixels: [[512, 512], [512, 768]].")

    @property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """The settings that have values, by name."""
        return {name: values for name in type(self).model_fields if (values := getattr(self, name))}


class Captions(Section):
    """The text files beside the images."""

    write: Literal["none", "class", "prompt", "training"] = Field(
        "none", description="The class tokens, the final prompt, or the training caption without its trigger."
    )
    extension: Literal[".caption", ".txt"] = Field(
        ".caption", description="The ending that the trainer reads. Left out: training.caption_extension."
    )


class ClassBlock(Section):
    """One of several classes, with a folder of its own."""

    tokens: FileNamePart = Field(alias="words", description="The class tokens, as they stand in the folder name.")
    share: float = Field(1.0, gt=0, le=1_000_000, description="Its part of the count, relative to the others'.")
    positive: Positive | None = Field(None, description="Instead of prompts.positive.")
    negative: str | None = Field(None, max_length=LONGEST_PROMPT, description="Instead of prompts.negative.")


class Workflow(Section):
    """A ComfyUI graph of your own instead of the built-in one."""

    file: ExpandedPath = Field(description="JSON as ComfyUI exports or saves it, or a picture that carries one.")
    bindings: dict[str, str | tuple[str, ...]] = Field(
        default_factory=dict,
        description="NAME = 'node.input' by id or title, or a list of them, where reggen cannot tell: seed = '3.seed'.",
    )


class Checks(Section):
    """Checks that an image passes before it enters the dataset. Each image is always decoded whole."""

    size: bool = Field(True, description="Exactly width x height. Turn off for a workflow that upscales.")
    black: bool = Field(True, description="Refuse black images.")
    black_level: int = Field(8, ge=0, le=254, description="Black is what has no channel value above this.")
    flat: bool = Field(True, description="Refuse images of one colour.")
    flat_level: float = Field(1.0, ge=0, le=128, description="Flat is what has no standard deviation above this.")
    noise: bool = Field(True, description="Refuse images of nothing but noise.")
    noise_level: float = Field(
        0.8, gt=0, le=2, description="Noise is where neighbours differ by more than this part of the deviation."
    )
    duplicates: bool = Field(True, description="Refuse images that are, or look like, another or a training image.")
    likeness: int = Field(
        6, ge=0, le=24, description="Images look alike when their 64-bit hashes differ in no more bits than this."
    )


class Limits(Section):
    """Time-outs in seconds, and how often something is tried."""

    attempts: int = Field(3, ge=1, le=100, description="Tries per image before it is given up.")
    lost: int = Field(10, ge=1, le=1_000, description="Times that servers may lose the prompt of one image.")
    connect: float = Field(5.0, gt=0, le=300, description="Opening a connection.")
    request: float = Field(30.0, gt=0, le=3_600, description="One small request, until its answer is complete.")
    download: float = Field(120.0, gt=0, le=36_000, description="One image, until its last byte.")
    silence: float = Field(30.0, gt=0, le=3_600, description="The queue is polled after this long without a message.")
    stall: float = Field(
        1200.0,
        gt=0,
        le=86_400,
        description="A prompt that runs this long without progress is interrupted; then its server rests.",
    )
    gap: float = Field(
        45.0,
        ge=30,
        le=3_600,
        description="A server whose prompts wait this long, while none runs and nothing happens, has a dead worker.",
    )
    away: float = Field(
        30.0, gt=0, le=86_400, description="A server that is away for this long gives its prompts to the others."
    )
    give_up_after: float | None = Field(
        None,
        gt=0,
        description="The run ends when all servers are away for this long. Left out: no limit.",
    )
    give_ups_in_a_row: int = Field(10, ge=1, description="The run stops when this many prompts in a row are given up.")
    give_up_share: float = Field(
        0.5, gt=0, le=1, description="The run stops when more than this share of its last 50 images are given up."
    )
    prompts: int | None = Field(None, ge=1, description="The run posts no more prompts than this. Left out: no limit.")
    megabytes: int = Field(256, ge=1, le=16_384, description="The largest image file taken from a server.")
    megapixels: int = Field(100, ge=1, le=178, description="The largest image decoded.")


class Job(Section):
    """One job file. Hand each function the section it needs."""

    dataset: Dataset
    servers: tuple[Server, ...] = Field((Server(),), min_length=1)
    sampling: Sampling = Sampling()
    prompts: Prompts = Prompts()
    workflow: Workflow | None = None
    checks: Checks = Checks()
    training: Training | None = None
    guard: Guarding = Guarding()
    matrix: Axes = Axes()
    captions: Captions = Captions()
    classes: tuple[ClassBlock, ...] = Field((), alias="class")
    limits: Limits = Limits()
    notify: Notify = Notify()
    _source: str = PrivateAttr("the job")
    _command_words: tuple[str, ...] = PrivateAttr(())
    _remarks: tuple[str, ...] = PrivateAttr(())

    @property
    def source(self) -> str:
        """The job file's path as it was given, for messages; "the job" for one that came from no file."""
        return self._source

    @property
    def command_words(self) -> tuple[str, ...]:
        """The words that name this job on a command line; none for a job that came from no file."""
        return self._command_words

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences on how its file was read; none for a job that came from no file."""
        return self._remarks

    def read_from(self, source: str, command_words: tuple[str, ...], remarks: tuple[str, ...] = ()) -> Self:
        """The same job, with its origin."""
        job = self.model_copy()
        job._source, job._command_words, job._remarks = source, command_words, remarks
        return job

    @model_validator(mode="before")
    @classmethod
    def _with_the_trainers_extension(cls, values: Any) -> Any:
        """Give captions.extension the trainer's where it is left out: kohya reads both sets with one."""
        if not isinstance(values, dict):
            return values
        training, captions = values.get("training"), values.get("captions", {})
        theirs = training.get("caption_extension") if isinstance(training, dict) else None
        if theirs not in _CAPTION_EXTENSIONS or not isinstance(captions, dict) or "extension" in captions:
            return values
        return {**values, "captions": {**captions, "extension": theirs}}

    @field_validator("classes")
    @classmethod
    def _have_folders_of_their_own(cls, classes: tuple[ClassBlock, ...]) -> tuple[ClassBlock, ...]:
        folders = [one.tokens.lower() for one in classes]
        if len(set(folders)) < len(folders):
            raise ValueError("two blocks have the same class tokens, and would share a folder")
        return classes

    @field_validator("servers", mode="before")
    @classmethod
    def _as_tables(cls, servers: object) -> object:
        if isinstance(servers, list):
            return [{"url": server} if isinstance(server, str) else server for server in servers]
        return servers

    @field_validator("servers")
    @classmethod
    def _are_different(cls, servers: tuple[Server, ...]) -> tuple[Server, ...]:
        servers = tuple(one for server in servers for one in server.one_for_each_gpu())
        names = Counter(server.name.lower() for server in servers)
        if twice := {server.url for server in servers if names[server.name.lower()] > 1}:
            raise ValueError(f"{', '.join(sorted(twice))} is named twice; raise its depth instead")
        return servers

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if problems := cross_check(self.model_dump(exclude_none=True, by_alias=True)):
            raise ValueError("; ".join(str(problem) for problem in problems))
        return self

    @property
    def size(self) -> ImageSize:
        """Width and height of all images in pixels, or what decides on the size of each."""
        if self.matrix.size:
            return "matrix"
        if self.sampling.size:
            return "training"
        if self.sampling.width is not None and self.sampling.height is not None:
            return self.sampling.width, self.sampling.height
        return "workflow" if self.workflow else self.sampling.model_family.native

    @property
    def trigger(self) -> tuple[str, ...]:
        """The trigger words of the subject that the images are made for; none without a training set."""
        return self.training.trigger if self.training else ()
