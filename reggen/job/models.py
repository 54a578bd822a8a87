"""The job: what one dataset is to be, frozen and validated.

These models are the single source of the job file's form: its JSON schema and its error messages are made
from them (see `reggen.job.loader`).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from reggen.geometry import DEFAULT_SIZE, Size
from reggen.job.cross_checks import gaps
from reggen.kohya.buckets import Bucketing

MAX_COUNT = 1 << 40
SEED_LIMIT = 1 << 53  # ComfyUI's page reads seeds as doubles: a larger one cannot be reproduced by hand
DEFAULT_URL = "http://127.0.0.1:8188"
_LAST_PORT = 65_535

SIDES = (64, 16_384)  # pixels
Side = Annotated[int, Field(ge=SIDES[0], le=SIDES[1], multiple_of=8)]
Phrase = Annotated[str, Field(max_length=200)]
Pixels = Annotated[int, Field(ge=1, le=SIDES[1])]
_LONGEST = (255, 3_000)  # bytes of a name, and of a path with what is added to it, that all file systems take
_LONGEST_PART = 150  # of what becomes part of a name
_LONGEST_TEXT = 20_000  # letters of a prompt
_LONGEST_SIDE = 65_536  # pixels, of a bucket
_CAPTIONS = (".caption", ".txt")  # endings
_FORBIDDEN_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_ENV = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Section(BaseModel):
    """What all tables of a job file have in common: unknown keys are errors, and `true` is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError(f"{str(value).lower()} is no value for it")
        return value


def _home(path: Path) -> Path:
    if any(ord(letter) < 32 for letter in str(path)):
        raise ValueError("it has a control character; in TOML write Windows paths with / or in 'single quotes'")
    if max(map(_bytes, path.parts), default=0) > _LONGEST[0]:
        raise ValueError(f"a name in it is too long: {_LONGEST[0]} bytes are the most that a file system takes")
    try:
        found = path.expanduser()
    except RuntimeError:
        raise ValueError(f"nobody here has the home {path.parts[0]}") from None
    if _bytes(str(found)) > _LONGEST[1]:
        raise ValueError(f"it is too long: {_LONGEST[1]:,} bytes are the most that every system takes")
    return found


def _bytes(name: str) -> int:
    """How long a name is to the file system; Windows counts in pairs of bytes."""
    return len(name.encode("utf-16-le", "surrogatepass")) // 2 if os.name == "nt" else len(os.fsencode(name))


def _file_name_part(value: str, what: str) -> str:
    if _bytes(value) > _LONGEST_PART:
        raise ValueError(f"{what} is too long: as part of a file name it has {_LONGEST_PART} bytes at most")
    if not value or value != value.strip() or value.startswith(".") or value.endswith("."):
        raise ValueError(f"{what} must not be empty, nor begin or end with a space or a dot")
    if found := _FORBIDDEN_IN_NAMES.search(value):
        raise ValueError(f"{what} must not contain {found.group()!r}: it becomes part of a file name")
    return value


def _word_or_number(word: str) -> Discriminator:
    """Tell a key's one word from its numbers, so that a wrong value is reported as a number only."""
    return Discriminator(lambda value: "word" if value == word else "int")


ImageSize = Size | Literal["training", "matrix", "workflow"]
"""Width and height of all images in pixels, or what decides on the size of each."""


class Dataset(Section):
    """Where the images go and how many."""

    root: Path = Field(description="The folder given to the trainer as --reg_data_dir. Made when missing.")
    class_tokens: str = Field(
        "", alias="class", description="The class tokens, as they stand in the folder name: anime_character."
    )
    repeats: int = Field(1, ge=1, le=10_000, description="kohya's repeats: the number before the class tokens.")
    prefix: str = Field("reg", description="Images are named PREFIX_001.png, PREFIX_002.png, ...")
    count: Annotated[
        Annotated[int, Field(ge=1, lt=MAX_COUNT), Tag("int")] | Annotated[Literal["match"], Tag("word")],
        _word_or_number("match"),
    ] = Field(description="How many images the finished dataset has; 'match': as many as the training set uses.")
    format: Literal["png", "webp", "jpg"] = Field(
        "png", description="png keeps the server's bytes; webp is lossless without a quality; jpg has quality 95."
    )
    quality: int | None = Field(None, ge=1, le=100, description="For webp and jpg: lossy, in this quality.")
    metadata: Literal["keep", "strip"] | None = Field(
        None,
        description="ComfyUI's graph in the image, in EXIF where the format has no text. "
        "Left out: kept in png and jpg, not in webp, whose size kohya misreads then.",
    )
    parameters: bool = Field(False, description="Write the text that AUTOMATIC1111 and Civitai read, too.")
    listings: tuple[Literal["jsonl", "csv"], ...] = Field(
        (),
        description="jsonl: metadata.jsonl beside the images, for Hugging Face; csv: a table beside their folder.",
    )

    @field_validator("root", mode="before")
    @classmethod
    def _named(cls, root: Any) -> Any:
        if isinstance(root, str) and not root.strip():
            raise ValueError("it is empty; name the folder")
        return root

    @field_validator("root")
    @classmethod
    def _expanded(cls, root: Path) -> Path:
        return _home(root)

    @field_validator("class_tokens", "prefix")
    @classmethod
    def _names(cls, value: str) -> str:
        return _file_name_part(value, "it")

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.quality is not None and self.format == "png":
            raise ValueError("quality goes with format = 'webp' or 'jpg'; png has none")
        return self

    @property
    def keeps_metadata(self) -> bool:
        """Whether ComfyUI's graph and reggen's note stay in the images."""
        return self.metadata == "keep" or (self.metadata is None and self.format != "webp")

    @property
    def folder(self) -> Path:
        """The folder the images lie in: ``root/REPEATS_CLASS``, kohya's layout."""
        return self.root / f"{self.repeats}_{self.class_tokens}"

    @property
    def state(self) -> Path:
        """Ledger, lock, log and report: beside the image folder, under a name that no trainer reads."""
        return self.root / ".reggen" / self.folder.name

    def of_class(self, class_tokens: str, count: int) -> ClassDataset:
        """The dataset of one class, whose count is known."""
        return ClassDataset.model_validate({**self.model_dump(by_alias=True), "class": class_tokens, "count": count})


class ClassDataset(Dataset):
    """The dataset of one class: its tokens and its count are known."""

    class_tokens: str = Field(alias="class")
    count: int


def _has_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


class Server(Section):
    """One ComfyUI server."""

    url: str = Field(DEFAULT_URL, description="http://host:port, as in the browser.")
    depth: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Prompts in flight. Left out: one that runs and one that waits, more of prompts under 50 ms.",
    )
    launch: Path | None = Field(None, description="A ComfyUI folder: reggen starts it there, keeps it up, and ends it.")
    python: Path | None = Field(None, description="For launch: the python to run it with; its own venv's by default.")
    arguments: tuple[str, ...] = Field((), description="For launch: more arguments for main.py.")
    gpus: tuple[Annotated[int, Field(ge=0, le=1_023)], ...] = Field(
        (), description="For launch: one ComfyUI for each, on consecutive ports."
    )
    memory_gib: float | None = Field(
        None, gt=0, le=1_000_000, description="For launch: restarted when it holds more memory."
    )
    keep_history: bool = Field(False, description="Leave finished prompts in ComfyUI's history, as its queue shows it.")
    free_every: int | None = Field(None, ge=1, description="Images after which it is asked to free its memory.")
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Sent with every request; ${NAME} is taken from the environment."
    )
    certificate: Path | None = Field(
        None, description="For https: a PEM file with the only certificate that the server may show, whatever its name."
    )

    @field_validator("launch", "python", "certificate")
    @classmethod
    def _expanded(cls, path: Path | None) -> Path | None:
        return _home(path) if path else None

    @field_validator("arguments")
    @classmethod
    def _sendable(cls, arguments: tuple[str, ...]) -> tuple[str, ...]:
        if any("\0" in argument for argument in arguments):
            raise ValueError("one has a character of the value 0, which no program can be given")
        return arguments

    @model_validator(mode="after")
    def _launchable(self) -> Self:
        given = [name for name in ("python", "arguments", "gpus", "memory_gib") if getattr(self, name)]
        if given and not self.launch:
            raise ValueError(f"{given[0]} goes with launch, the folder of a ComfyUI to start")
        parts = urlsplit(self.url)
        if self.certificate and parts.scheme != "https":
            raise ValueError("certificate goes with an address that begins with https://")
        if self.launch and (parts.hostname not in {"127.0.0.1", "localhost", "::1"} or not parts.port):
            raise ValueError(f"launch starts ComfyUI on this machine: give it a url such as {DEFAULT_URL}")
        if len(self.gpus) > 1 and (parts.port or 0) + len(self.gpus) - 1 > _LAST_PORT:
            raise ValueError(f"{len(self.gpus)} GPUs from port {parts.port} on go beyond the last port, {_LAST_PORT}")
        return self

    def one_for_each_gpu(self) -> list[Server]:
        """Itself, or with several GPUs a server for each, on consecutive ports."""
        if len(self.gpus) < 2:
            return [self]
        head, _, port = self.url.rpartition(":")
        urls = [f"{head}:{int(port) + number}" for number in range(len(self.gpus))]
        return [self.model_copy(update={"url": url, "gpus": (gpu,)}) for url, gpu in zip(urls, self.gpus, strict=True)]

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise ValueError("credentials do not belong in the URL; use headers with ${NAME}")
        if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"\s", url) or not _has_port(parts):
            raise ValueError(f"{url!r} is not an address such as {DEFAULT_URL}")
        try:
            parts.hostname.encode("idna")
        except UnicodeError:
            raise ValueError(f"{parts.hostname!r} is no name of a computer") from None
        if parts.query:
            hint = 'headers = { Authorization = "Bearer ${TOKEN}" }, or under another name that is read there'
            raise ValueError(f"an address ends before any ?; a token goes into {hint}")
        if parts.fragment:
            raise ValueError("an address ends before any #")
        return url.rstrip("/")

    @property
    def name(self) -> str:
        """The address without its scheme, for people to read."""
        return self.url.split("://", 1)[1]

    @property
    def netloc(self) -> str:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.netloc if parts.port else f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"

    def resolved_headers(self, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        """The headers with every ``${NAME}`` replaced. Raises KeyError(NAME) for one that is not set."""
        return {key: _with_environment(value, environ).strip() for key, value in self.headers.items()}


class Sampling(Section):
    """What the sampler is told. Left out: the workflow's own value, or the built-in graph's default."""

    checkpoint: str | None = Field(None, min_length=1, description="A file name as ComfyUI lists it.")
    width: int | None = Field(None, ge=SIDES[0], le=SIDES[1], multiple_of=8, description="Pixels; a multiple of 8.")
    height: int | None = Field(None, ge=SIDES[0], le=SIDES[1], multiple_of=8, description="Pixels; a multiple of 8.")
    steps: int | None = Field(None, ge=1, le=10_000)
    cfg: float | None = Field(None, ge=0, le=100)
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
        _word_or_number("auto"),
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

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.size and (self.width or self.height):
            raise ValueError("size = 'match' takes the sizes from the training set: leave out width and height")
        return self


class Weighted(Section):
    """One positive prompt with a weight."""

    text: str = Field(description="The prompt.")
    weight: float = Field(1.0, gt=0, le=1_000_000, description="How often it comes, beside the others.")


class Prompts(Section):
    """What is painted."""

    positive: str | tuple[str | Weighted, ...] | None = Field(
        None, description="A prompt, or a list of them gone through in turn; {a|b} and __wildcard__ are filled in."
    )
    negative: str | None = Field(None, max_length=_LONGEST_TEXT, description="One prompt for all images.")
    wildcards: Path | None = Field(None, description="The folder with wildcard files: __hats__ is hats.txt in it.")
    source: Literal["captions"] | None = Field(
        None, alias="from", description="'captions': the training captions, with the trigger replaced or removed."
    )
    prefix: str = Field("", max_length=_LONGEST_TEXT, description="With from: tags put before each caption.")
    suffix: str = Field("", max_length=_LONGEST_TEXT, description="With from: tags put after each caption.")
    replace: bool = Field(
        True, description="With from: the class tokens take the trigger's place; false: it just goes."
    )
    weights: dict[str, Annotated[float, Field(ge=0, le=1_000)]] = Field(
        default_factory=dict,
        description="With from: file name patterns and how much more often such images come: '*closeup*' = 2.",
    )

    @field_validator("positive")
    @classmethod
    def _some_words(cls, value: str | tuple[str | Weighted, ...] | None) -> str | tuple[str | Weighted, ...] | None:
        texts = (value,) if isinstance(value, str) else value
        if texts is not None and (not texts or not all(_words(text).strip() for text in texts)):
            raise ValueError("a positive prompt must not be empty")
        return value

    @field_validator("wildcards")
    @classmethod
    def _expanded(cls, wildcards: Path | None) -> Path | None:
        return _home(wildcards) if wildcards else None

    @property
    def positives(self) -> tuple[tuple[str, float], ...]:
        """The positive prompts with their weights; empty when the workflow's own, or the captions, are used."""
        given = (self.positive,) if isinstance(self.positive, str) else self.positive or ()
        return tuple((one.text, one.weight) if isinstance(one, Weighted) else (one, 1.0) for one in given)


def _words(prompt: str | Weighted) -> str:
    return prompt if isinstance(prompt, str) else prompt.text


class Training(Section):
    """The training set that the images are made for, as the trainer is told of it."""

    folder: Path | None = Field(None, description="The folder given to the trainer as --train_data_dir.")
    config: Path | None = Field(None, description="Instead of it: the file given as --dataset_config.")
    trigger: tuple[Phrase, ...] = Field(
        (), description="The subject's trigger words. None may be in a prompt or caption."
    )
    base: str | None = Field(None, min_length=1, description="The checkpoint that is trained.")
    caption_extension: Literal[".caption", ".txt"] = Field(".caption", description="--caption_extension.")
    resolution: Pixels | tuple[Pixels, Pixels] = Field(512, description="--resolution: 512 or [512, 768].")
    enable_bucket: bool = Field(
        True, description="--enable_bucket. Left out: on with folder; with config as that says, else off, as in kohya."
    )
    min_bucket_reso: int = Field(256, ge=1, le=_LONGEST_SIDE, description="--min_bucket_reso.")
    max_bucket_reso: int = Field(1024, ge=1, le=_LONGEST_SIDE, description="--max_bucket_reso.")
    bucket_reso_steps: int = Field(64, ge=1, le=_LONGEST_SIDE, description="--bucket_reso_steps.")
    bucket_no_upscale: bool = Field(False, description="--bucket_no_upscale.")

    @model_validator(mode="before")
    @classmethod
    def _as_the_config_says(cls, values: Any) -> Any:
        """A config that says nothing of buckets has none, unless kohya's command line enables them."""
        if isinstance(values, dict) and values.get("config") is not None:
            return {"enable_bucket": False, **values}
        return values

    @field_validator("folder", "config")
    @classmethod
    def _expanded(cls, path: Path | None) -> Path | None:
        return _home(path) if path else None

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.folder is None) == (self.config is None):
            raise ValueError("name the training set by folder or by config, one of them")
        return self

    @property
    def pixels(self) -> Size:
        """The resolution as width and height."""
        return self.resolution if isinstance(self.resolution, tuple) else (self.resolution, self.resolution)

    @property
    def command_line_bucketing(self) -> Bucketing:
        """Bucket options on the trainer's command line; a config's own go over them."""
        return Bucketing(
            self.pixels,
            self.enable_bucket,
            self.min_bucket_reso,
            self.max_bucket_reso,
            self.bucket_reso_steps,
            self.bucket_no_upscale,
        )


class Guarding(Section):
    """What must not stand in a prompt, a caption or the class tokens."""

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
        """The ones that have values."""
        return {name: values for name in type(self).model_fields if (values := getattr(self, name))}


class Captions(Section):
    """The text files beside the images."""

    write: Literal["none", "class", "prompt", "training"] = Field(
        "none", description="The class tokens, the final prompt, or the training caption without its trigger."
    )
    extension: Literal[".caption", ".txt"] = Field(
        ".caption", description="What the trainer reads. Left out: training.caption_extension."
    )


class ClassBlock(Section):
    """One of several classes, with a folder of its own."""

    words: str = Field(description="The class tokens, as they stand in the folder name.")
    share: float = Field(1.0, gt=0, le=1_000_000, description="Its part of the count, beside the others'.")
    positive: str | tuple[str | Weighted, ...] | None = Field(None, description="Instead of prompts.positive.")
    negative: str | None = Field(None, max_length=_LONGEST_TEXT, description="Instead of prompts.negative.")

    @field_validator("words")
    @classmethod
    def _name(cls, value: str) -> str:
        return _file_name_part(value, "it")


class Workflow(Section):
    """A ComfyUI graph of your own instead of the built-in one."""

    file: Path = Field(description="API-format JSON, or a PNG made by ComfyUI that carries one.")
    bindings: dict[str, str] = Field(
        default_factory=dict,
        description="NAME = 'node.input' by id or title, where reggen cannot find it: seed = '3.seed'.",
    )

    @field_validator("file")
    @classmethod
    def _expanded(cls, file: Path) -> Path:
        return _home(file)


class Checks(Section):
    """What an image must be before it enters the dataset. Each always decodes whole."""

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
    lost: int = Field(10, ge=1, le=1_000, description="How often one image may vanish from servers.")
    connect: float = Field(5.0, gt=0, le=300, description="Opening a connection.")
    request: float = Field(30.0, gt=0, le=3_600, description="One small request, to its whole answer.")
    download: float = Field(120.0, gt=0, le=36_000, description="One image, to its last byte.")
    silence: float = Field(30.0, gt=0, le=3_600, description="No frame for so long: look at the queue.")
    stall: float = Field(
        1200.0, gt=0, le=86_400, description="No sign of a prompt that runs: it is interrupted, then its server rests."
    )
    gap: float = Field(
        45.0,
        ge=30,
        le=3_600,
        description="Prompts wait, none runs and nothing happens for so long: the server's worker is dead.",
    )
    away: float = Field(
        30.0, gt=0, le=86_400, description="A server is gone for so long: its prompts go to the others."
    )
    give_up_after: float | None = Field(
        None, gt=0, description="All servers away for so long: the run ends. Left out, it waits without limit."
    )
    give_ups_in_a_row: int = Field(10, ge=1, description="The run stops when so many prompts in a row are given up.")
    give_up_share: float = Field(
        0.5, gt=0, le=1, description="The run stops when more than this share of its last 50 images are given up."
    )
    prompts: int | None = Field(None, ge=1, description="The run posts no more prompts than this. Left out: no limit.")
    megabytes: int = Field(256, ge=1, le=16_384, description="The largest image file taken from a server.")
    megapixels: int = Field(100, ge=1, le=178, description="The largest image decoded.")


class Notify(Section):
    """Who is told, through Apprise, when the run is over, stuck or out of room."""

    urls: tuple[SecretStr, ...] = Field(
        (), description="Apprise addresses such as ntfy://topic; ${NAME} is taken from the environment."
    )

    def resolved(self, environ: Mapping[str, str] = os.environ) -> list[str | KeyError]:
        """The addresses with every ``${NAME}`` replaced, or the KeyError of the one that is not set."""
        found: list[str | KeyError] = []
        for url in self.urls:
            try:
                found.append(_with_environment(url, environ))
            except KeyError as error:
                found.append(error)
        return found


def _with_environment(secret: SecretStr, environ: Mapping[str, str]) -> str:
    return _ENV.sub(lambda match: environ[match.group(1)], secret.get_secret_value())


class Job(Section):
    """One dataset to make. Frozen; hand each room the section it needs."""

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

    @model_validator(mode="before")
    @classmethod
    def _read_alike(cls, values: Any) -> Any:
        """Kohya reads the captions of both sets with one --caption_extension: where it is not said, theirs is ours."""
        if not isinstance(values, dict):
            return values
        training, captions = values.get("training"), values.get("captions", {})
        theirs = training.get("caption_extension") if isinstance(training, dict) else None
        if theirs not in _CAPTIONS or not isinstance(captions, dict) or "extension" in captions:
            return values
        return {**values, "captions": {**captions, "extension": theirs}}

    @field_validator("classes")
    @classmethod
    def _different(cls, classes: tuple[ClassBlock, ...]) -> tuple[ClassBlock, ...]:
        words = [one.words.lower() for one in classes]
        if len(set(words)) < len(words):
            raise ValueError("two blocks have the same words, and would have one folder")
        return classes

    @field_validator("servers", mode="before")
    @classmethod
    def _plain_urls(cls, servers: object) -> object:
        if isinstance(servers, list):
            return [{"url": server} if isinstance(server, str) else server for server in servers]
        return servers

    @field_validator("servers")
    @classmethod
    def _each_once(cls, servers: tuple[Server, ...]) -> tuple[Server, ...]:
        servers = tuple(one for server in servers for one in server.one_for_each_gpu())
        names = Counter(server.name.lower() for server in servers)
        if twice := {server.url for server in servers if names[server.name.lower()] > 1}:
            raise ValueError(f"{', '.join(sorted(twice))} is named twice; raise its depth instead")
        return servers

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if problems := gaps(self.model_dump(exclude_none=True, by_alias=True)):
            raise ValueError("; ".join(str(problem) for problem in problems))
        return self

    @property
    def size(self) -> ImageSize:
        """Width and height of all images, in pixels, or what decides on each one's."""
        if self.matrix.size:
            return "matrix"
        if self.sampling.size:
            return "training"
        if self.sampling.width is not None and self.sampling.height is not None:
            return self.sampling.width, self.sampling.height
        return "workflow" if self.workflow else DEFAULT_SIZE

    @property
    def trigger(self) -> tuple[str, ...]:
        """The trigger words of the subject that the images are made for; none without a training set."""
        return self.training.trigger if self.training else ()
