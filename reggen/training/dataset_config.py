"""A kohya ``--dataset_config`` as the folders and options it names. Blocking; no image is read here."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reggen.errors import JobError, Problem
from reggen.files import MIB, text_of
from reggen.kohya.rules import Bucketing, dotted
from reggen.training.captions import CaptionRules
from reggen.training.subsets import DatasetEntry, OptionInForce, Subset, once

_LARGEST = 16 * MIB
_Kinds = dict[str, type | tuple[type, ...]]
_Layers = tuple[tuple[Mapping[str, Any], str], ...]  # a table and its name; the first that has a key decides

_SUBSET: _Kinds = {
    "num_repeats": int,
    "class_tokens": str,
    "caption_extension": str,
    "enable_wildcard": bool,
    "cache_info": bool,
}
_DATASET: _Kinds = {
    "resolution": (int, list),
    "enable_bucket": bool,
    "min_bucket_reso": int,
    "max_bucket_reso": int,
    "bucket_reso_steps": int,
    "bucket_no_upscale": bool,
}
_OWN: _Kinds = {"image_dir": str, "is_reg": bool}
_UNREAD = frozenset(
    [
        "batch_size",
        "caption_dropout_every_n_epochs",
        "caption_dropout_rate",
        "caption_prefix",
        "caption_separator",
        "caption_suffix",
        "caption_tag_dropout_rate",
        "color_aug",
        "custom_attributes",
        "face_crop_aug_range",
        "flip_aug",
        "keep_tokens",
        "keep_tokens_separator",
        "network_multiplier",
        "random_crop",
        "resize_interpolation",
        "secondary_separator",
        "shuffle_caption",
        "token_warmup_min",
        "token_warmup_step",
        "validation_seed",
        "validation_split",
        "alpha_mask",
    ]
)
_FIELDS = {
    "enable_bucket": "enabled",
    "min_bucket_reso": "min_reso",
    "max_bucket_reso": "max_reso",
    "bucket_reso_steps": "steps",
    "bucket_no_upscale": "no_upscale",
}


def read_config(file: Path, bucketing: Bucketing, ending: str) -> tuple[DatasetEntry, ...]:
    """The entries of a kohya ``--dataset_config``, TOML or JSON.

    ``bucketing`` and ``ending`` are the command line's and stand where the file says nothing: config_util.py,
    BlueprintGenerator.generate, takes an option from the subset, else the dataset, else general, else there.
    A relative image_dir is relative to where the trainer is started, here: to the working folder.
    Raises JobError with every problem of the file.
    """
    document = _parsed(file)
    reader = _ConfigReader(bucketing, dotted(ending))
    entries = reader.entries(document)
    if reader.problems:
        raise JobError(str(file), tuple(reader.problems))
    return entries


def _parsed(file: Path) -> dict[str, Any]:
    try:
        text = text_of(file, _LARGEST, encoding="utf-8")  # as kohya does: a mark is no TOML
        document = json.loads(text) if file.name.lower().endswith(".json") else tomllib.loads(text)
    except OSError as error:
        raise JobError(str(file), (Problem("", f"it cannot be read: {error.strerror}"),)) from None
    except RecursionError:
        raise JobError(str(file), (Problem("", "it is no dataset config: it is nested too deeply"),)) from None
    except ValueError as error:  # no UTF-8, no TOML, no JSON
        raise JobError(str(file), (Problem("", f"it is no dataset config: {error}"),)) from None
    if not isinstance(document, dict):
        raise JobError(str(file), (Problem("", "it is no dataset config: it holds no tables"),))
    return document


@dataclass(slots=True)
class _ConfigReader:
    """Goes through a config once and keeps what is wrong with it."""

    bucketing: Bucketing
    ending: str
    problems: list[Problem] = field(default_factory=list)

    def entries(self, document: Mapping[str, Any]) -> tuple[DatasetEntry, ...]:
        self._keys(document, "", {"general": dict, "datasets": list}, frozenset())
        general = self._table(document.get("general", {}), "general")
        self._keys(general, "general", _SUBSET | _DATASET, _UNREAD)
        datasets = self._tables(document.get("datasets"), "datasets")
        if not datasets:
            self.problems.append(Problem("datasets", "there are none", "write [[datasets]] and its subsets below"))
        return tuple(self._entry(dataset, general, f"datasets[{n}]") for n, dataset in enumerate(datasets))

    def _entry(self, dataset: Mapping[str, Any], general: Mapping[str, Any], key: str) -> DatasetEntry:
        self._keys(dataset, key, {**_SUBSET, **_DATASET, "subsets": list}, _UNREAD)
        if dataset.get("validation_split", general.get("validation_split", 0)):
            cure = "reggen cannot say which images it sets aside by chance; leave it out"
            self.problems.append(Problem(f"{key}.validation_split", "is used", cure))
        layers = ((dataset, key), (general, "general"))
        bucketing, settings = self._bucketing(layers, key)
        tables = self._tables(dataset.get("subsets"), f"{key}.subsets")
        if not tables:
            self.problems.append(Problem(f"{key}.subsets", "there are none"))
        subsets = (
            self._subset(((table, f"{key}.subsets[{n}]"), *layers), table, f"{key}.subsets[{n}]")
            for n, table in enumerate(tables)
        )
        return DatasetEntry(bucketing, once(found for found in subsets if found), settings)

    def _subset(self, layers: _Layers, table: Mapping[str, Any], key: str) -> Subset | None:
        if "metadata_file" in table or "conditioning_data_dir" in table:
            cure = "reg images belong to the DreamBooth method: image_dir without metadata_file"
            self.problems.append(Problem(key, "is of the fine-tuning or ControlNet method", cure))
            return None
        self._keys(table, key, _SUBSET | _OWN, _UNREAD)
        if not isinstance(table.get("image_dir"), str):
            self.problems.append(
                Problem(f"{key}.image_dir", "is missing" if "image_dir" not in table else "is no text")
            )
            return None
        reading = CaptionRules(
            dotted(str(_found(layers, "caption_extension", self.ending)[0])),
            _found(layers, "class_tokens", None)[0],
            wildcard=bool(_found(layers, "enable_wildcard", False)[0]),
        )
        repeats, cached = _found(layers, "num_repeats", 1)[0], _found(layers, "cache_info", False)[0]
        whole = repeats if isinstance(repeats, int) else 0
        return Subset(Path(table["image_dir"]), whole, bool(table.get("is_reg")), reading, bool(cached))

    def _bucketing(self, layers: _Layers, key: str) -> tuple[Bucketing, tuple[OptionInForce, ...]]:
        made, settings = self.bucketing, []
        for name in _DATASET:
            attribute = _FIELDS.get(name, name)
            value, origin = _found(layers, name, getattr(self.bucketing, attribute))
            if name == "resolution":
                value = self._resolution(value, origin)
            made = replace(made, **{attribute: value})
            settings.append(
                OptionInForce(name, "x".join(map(str, value)) if name == "resolution" else str(value), origin)
            )
        if not self.problems:
            self.problems.extend(Problem(key, problem) for problem in made.problems())
        return made, tuple(settings)

    def _resolution(self, value: Any, origin: str) -> tuple[int, int]:
        sides = [value, value] if isinstance(value, int) else list(value) if isinstance(value, list | tuple) else []
        if len(sides) != 2 or not all(type(side) is int for side in sides):
            self.problems.append(Problem(f"{origin}.resolution", "is neither a number nor [width, height]"))
            return self.bucketing.resolution
        return sides[0], sides[1]

    def _keys(self, table: Mapping[str, Any], key: str, known: _Kinds, unread: frozenset[str]) -> None:
        for name, value in table.items():
            where = f"{key}.{name}" if key else name
            if name in known:
                if not isinstance(value, known[name]) or (isinstance(value, bool) and known[name] is not bool):
                    self.problems.append(Problem(where, f"{value!r} is no value for it"))
            elif name not in unread:
                near = difflib.get_close_matches(name, [*known, *unread], n=1)
                hint = f"did you mean {near[0]}?" if near else ""
                self.problems.append(Problem(where, "is not a key that kohya knows here", hint))

    def _table(self, value: Any, key: str) -> Mapping[str, Any]:
        if isinstance(value, dict):
            return value
        self.problems.append(Problem(key, "is no table"))
        return {}

    def _tables(self, value: Any, key: str) -> Sequence[Mapping[str, Any]]:
        return [self._table(item, f"{key}[{n}]") for n, item in enumerate(value)] if isinstance(value, list) else []


def _found(layers: _Layers, name: str, otherwise: Any) -> tuple[Any, str]:
    """A value and where it was said: the first of the layers that has it."""
    for table, origin in layers:
        if (value := table.get(name)) is not None:
            return value, origin
    return otherwise, "the command line or kohya's default"
