"""A kohya ``--dataset_config`` as the folders and options it names. Blocking; no image is read here.

One model for each level of the file, with the keys and the types of kohya's own schema for the DreamBooth method
(config_util.py, ConfigSanitizer). An option that a level does not name is None there.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    ValidationError,
    field_validator,
    model_validator,
)

from reggen.errors import JobError, Problem
from reggen.files import MIB, text_of
from reggen.geometry import Size, size_text
from reggen.kohya.buckets import Bucketing
from reggen.kohya.captions import CaptionRules, with_dot
from reggen.kohya.validation import NO_SPLIT, ValidationSplit
from reggen.training.subsets import DatasetEntry, OptionInForce, Subset, effective
from reggen.wording import did_you_mean, value_text

_LARGEST = 16 * MIB
_COMMAND_LINE = "the command line or kohya's default"
_BUCKETING = {
    "resolution": "resolution",
    "enable_bucket": "enabled",
    "min_bucket_reso": "min_reso",
    "max_bucket_reso": "max_reso",
    "bucket_reso_steps": "steps",
    "bucket_no_upscale": "no_upscale",
}
"""kohya's options that decide on buckets, and the fields of `Bucketing` that hold them."""


def read_config(
    file: Path, bucketing: Bucketing, captions: CaptionRules, validation: ValidationSplit = NO_SPLIT
) -> tuple[DatasetEntry, ...]:
    """The entries of a kohya ``--dataset_config``, TOML or JSON.

    ``bucketing``, ``captions`` and ``validation`` are the command line's and hold where the file says nothing.
    A relative image_dir is relative to where the trainer is started, here: to the working folder.
    Raises JobError with every problem of the file.
    """
    config = _validated(file, _parsed(file))
    entries = tuple(_entry(levels, bucketing, captions, validation) for levels in config.levels())
    problems = [
        Problem(f"datasets[{number}]", f"kohya does not start: {problem}")
        for number, entry in enumerate(entries)
        for problem in entry.bucketing.problems()
    ]
    if problems:
        raise JobError(str(file), tuple(problems))
    return entries


# ---- the levels of the file


def _size(value: Any) -> Size:
    """A resolution: one number for a square, or a list of width and height."""
    if isinstance(value, bool):
        raise ValueError(f"{value_text(value)} is not a resolution")  # noqa: TRY004 - pydantic takes ValueError
    sides = value if isinstance(value, list) else [value, value]
    if len(sides) != 2 or not all(type(side) is int for side in sides):
        raise ValueError(f"{value_text(value)} is neither a number nor [width, height]")
    return tuple(sides)


_Fraction = InstanceOf[float]  # kohya refuses 1 where it wants 1.0


class _Level(BaseModel):
    """Options that every level may name. ``true`` is not taken for 1, nor a text for a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    num_repeats: int | None = None
    class_tokens: str | None = None
    caption_extension: str | None = None
    cache_info: bool | None = None
    enable_wildcard: bool | None = None
    caption_prefix: str | None = None
    caption_suffix: str | None = None
    caption_separator: str | None = None
    keep_tokens: int | None = None
    keep_tokens_separator: str | None = None
    secondary_separator: str | None = None
    shuffle_caption: bool | None = None
    caption_dropout_rate: float | None = None
    caption_dropout_every_n_epochs: int | None = None
    caption_tag_dropout_rate: float | None = None
    token_warmup_min: int | None = None
    token_warmup_step: float | None = None
    color_aug: bool | None = None
    flip_aug: bool | None = None
    random_crop: bool | None = None
    face_crop_aug_range: Annotated[list[_Fraction], Field(min_length=2, max_length=2)] | None = None
    resize_interpolation: str | None = None
    custom_attributes: dict[str, Any] | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _not_null(cls, value: object) -> object:
        if value is None:
            raise ValueError("null is not a value: leave the key out")
        return value


class GeneralTable(_Level):
    """``[general]``: the options that hold for all datasets."""

    resolution: Annotated[Size, BeforeValidator(_size)] | None = None
    enable_bucket: bool | None = None
    min_bucket_reso: int | None = None
    max_bucket_reso: int | None = None
    bucket_reso_steps: int | None = None
    bucket_no_upscale: bool | None = None
    batch_size: int | None = None
    network_multiplier: _Fraction | None = None
    validation_seed: int | None = None
    validation_split: _Fraction | None = None


class SubsetTable(_Level):
    """``[[datasets.subsets]]``: one folder of images."""

    image_dir: str
    is_reg: bool = False
    alpha_mask: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_dreambooth(cls, table: object) -> object:
        if isinstance(table, dict) and table.keys() & {"metadata_file", "conditioning_data_dir"}:
            raise ValueError("it is a subset of the fine-tuning or ControlNet method")
        return table


class DatasetTable(GeneralTable):
    """``[[datasets]]``: its subsets, and the options that hold for them."""

    subsets: Annotated[list[SubsetTable], Field(min_length=1)]


class ConfigFile(BaseModel):
    """A whole config."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    general: GeneralTable = GeneralTable()
    datasets: Annotated[list[DatasetTable], Field(min_length=1)]

    def levels(self) -> Iterator[_DatasetLevels]:
        """Each dataset with the levels around it."""
        for number, dataset in enumerate(self.datasets):
            yield _DatasetLevels(dataset, self.general, f"datasets[{number}]")


class _Setting(NamedTuple):
    """The value of an option, and where it was said."""

    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class _DatasetLevels:
    """A dataset within its file. An option is taken from the subset, else the dataset, else general, else a default.

    So does config_util.py, BlueprintGenerator.generate.
    """

    dataset: DatasetTable
    general: GeneralTable
    key: str

    def setting(self, name: str, default: object, subset: SubsetTable | None = None) -> _Setting:
        """The value in force, of this subset or of the dataset itself."""
        for table, origin in ((subset, ""), (self.dataset, self.key), (self.general, "general")):
            if (value := getattr(table, name, None)) is not None:
                return _Setting(value, origin)
        return _Setting(default, _COMMAND_LINE)


# ---- what the levels come to


def _entry(
    levels: _DatasetLevels, bucketing: Bucketing, captions: CaptionRules, validation: ValidationSplit
) -> DatasetEntry:
    found = {option: levels.setting(option, getattr(bucketing, field)) for option, field in _BUCKETING.items()}
    options = tuple(
        OptionInForce(name, _text(setting.value), setting.origin, setting.origin == _COMMAND_LINE)
        for name, setting in found.items()
    )
    is_known = bucketing.is_known or found["resolution"].origin != _COMMAND_LINE
    made = Bucketing(**{field: found[option].value for option, field in _BUCKETING.items()}, is_known=is_known)
    share = levels.setting("validation_split", validation.share).value
    split = ValidationSplit(share, levels.setting("validation_seed", validation.seed).value)
    return DatasetEntry(
        made, effective(_subset(levels, subset, captions) for subset in levels.dataset.subsets), options, split
    )


def _subset(levels: _DatasetLevels, subset: SubsetTable, captions: CaptionRules) -> Subset:
    def value(name: str, default: object) -> Any:
        return levels.setting(name, default, subset).value

    rules = CaptionRules(
        with_dot(value("caption_extension", captions.ending)),
        value("class_tokens", None),
        wildcard=value("enable_wildcard", captions.wildcard),
        prefix=value("caption_prefix", captions.prefix),
        suffix=value("caption_suffix", captions.suffix),
        separator=value("caption_separator", captions.separator),
        secondary_separator=value("secondary_separator", captions.secondary_separator),
    )
    folder, repeats = Path(subset.image_dir), value("num_repeats", 1)
    return Subset(folder, repeats, subset.is_reg, rules, cache_info=value("cache_info", False))


def _text(value: object) -> str:
    return size_text((value[0], value[1])) if isinstance(value, tuple) else str(value)


# ---- what is wrong with it


def _parsed(file: Path) -> dict[str, Any]:
    try:
        text = text_of(file, _LARGEST, encoding="utf-8")  # as kohya does: a byte order mark is not TOML
        document = json.loads(text) if file.name.lower().endswith(".json") else tomllib.loads(text)
    except OSError as error:
        raise JobError(str(file), (Problem("", f"it cannot be read: {error.strerror}"),)) from None
    except RecursionError:
        raise JobError(str(file), (Problem("", "it is not a dataset config: it is nested too deeply"),)) from None
    except ValueError as error:  # neither UTF-8, TOML nor JSON
        raise JobError(str(file), (Problem("", f"it is not a dataset config: {error}"),)) from None
    if not isinstance(document, dict):
        raise JobError(str(file), (Problem("", "it is not a dataset config: it holds no tables"),))
    return document


def _validated(file: Path, document: dict[str, Any]) -> ConfigFile:
    try:
        return ConfigFile.model_validate(document)
    except ValidationError as error:
        raise JobError(str(file), tuple(map(_problem, error.errors(include_url=False)))) from None


_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "float_type": "a number",
    "int_type": "a whole number",
    "is_instance_of": "a number with a decimal point, such as 1.0",
    "list_type": "a list",
    "model_type": "a table",
    "string_type": "a text",
}
"""By pydantic's types of errors: the form a value must have."""


def _problem(item: Any) -> Problem:
    """An error of pydantic in the words of the file's author."""
    *levels, name = item["loc"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).removeprefix(".")
    match item["type"]:
        case "extra_forbidden":
            return Problem(key, "kohya does not know this key here", _elsewhere(str(name), levels))
        case "missing" | "too_short" if name in {"datasets", "subsets"}:
            return Problem(key, "there is none", "write [[datasets]], and [[datasets.subsets]] below it")
        case "missing":
            return Problem(key, "is missing", "write the folder with the images of this subset")
        case "value_error":
            hint = "reg images belong to the DreamBooth method: image_dir without metadata_file"
            return Problem(key, str(item["ctx"]["error"]), hint if levels and levels[-1] == "subsets" else "")
        case kind if kind in _EXPECTED:
            return Problem(key, f"{value_text(item['input'])} is not {_EXPECTED[kind]}")
    return Problem(key, item["msg"][:1].lower() + item["msg"][1:])


def _elsewhere(name: str, levels: list[int | str]) -> str:
    """Where a key belongs that its own level does not take: another level, or another spelling."""
    if name in GeneralTable.model_fields:
        return "write it under [[datasets]] or [general]"
    if name in SubsetTable.model_fields:
        return "write it under [[datasets.subsets]]"
    tables = [part for part in levels if isinstance(part, str)]
    models: dict[str, type[BaseModel]] = {"general": GeneralTable, "datasets": DatasetTable, "subsets": SubsetTable}
    return did_you_mean(name, models[tables[-1]].model_fields if tables else ConfigFile.model_fields)
