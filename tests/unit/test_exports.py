"""Listings of the finished images: their entries, their order, their texts; whole or not at all."""

from __future__ import annotations

import csv
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reggen.dataset.exports import write_listings
from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger
from reggen.dataset.rows import Row, now_utc
from reggen.errors import StorageError
from reggen.job.dataset import Dataset
from tests.pictures import paint

ODD = 'a girl, "smiling"\nsecond\r\nline\u2028\x85\x7fMädchen, 少女, 😀'


def dataset_at(root: Path, *listings: str, **more: Any) -> Dataset:
    values = {"root": root, "class": "anime_girl", "count": 4, "listings": listings} | more
    return Dataset.model_validate(values)


def put(dataset: Dataset, *rows: Row) -> None:
    Folder(dataset).prepare()
    with Ledger.open(dataset.state) as ledger:
        ledger.slots.put(rows)


def listed(dataset: Dataset, *rows: Row) -> list[Path]:
    """The listings of the first four slots, after these rows are in the ledger."""
    put(dataset, *rows)
    return write_listings(dataset, 4)


def done(idx: int, positive: str | None = "a girl", **more: Any) -> Row:
    row = Row(idx, "done", 0, f"reg_{idx + 1:03d}", now_utc(), positive=positive, negative="blurry", seed=7 + idx)
    return replace(row, width=64, height=96, checkpoint="anime.safetensors", **more)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_only_what_is_done_is_listed_in_slot_order(tmp_path: Path) -> None:
    """Given up and rejected slots, and those beyond the count, are in none, in whatever order the rows came."""
    dataset = dataset_at(tmp_path, "jsonl", "csv")
    lost = [Row(1, "given_up", 0, "reg_002", now_utc()), Row(3, "rejected", 1, "reg_004", now_utc())]
    jsonl, table = listed(dataset, done(9), done(2), *lost, done(0))
    assert [one["file_name"] for one in read_jsonl(jsonl)] == ["reg_001.png", "reg_003.png"]
    assert [one["file_name"] for one in read_csv(table)] == ["1_anime_girl/reg_001.png", "1_anime_girl/reg_003.png"]


def test_an_entry_says_what_the_image_shows_and_how_it_was_made(tmp_path: Path) -> None:
    """Both listings say the same. The server, which says nothing about the picture, is in neither."""
    dataset = dataset_at(tmp_path, "jsonl", "csv")
    jsonl, table = listed(dataset, done(0))
    made = {"negative": "blurry", "seed": 7, "width": 64, "height": 96, "checkpoint": "anime.safetensors"}
    assert read_jsonl(jsonl) == [{"file_name": "reg_001.png", "text": "a girl"} | made]
    assert read_csv(table)[0] == {"file_name": "1_anime_girl/reg_001.png", "text": "a girl"} | {
        key: str(value) for key, value in made.items()
    }


@pytest.mark.parametrize("positive", [None, ""])
def test_an_image_without_a_prompt_of_its_own_has_the_class_tokens(tmp_path: Path, positive: str | None) -> None:
    """They are what the trainer would take. No text is ever null; only the negative and the checkpoint may be empty."""
    dataset = dataset_at(tmp_path, "jsonl", format="webp")
    row = replace(done(0, positive), negative=None, checkpoint=None)
    (entry,) = read_jsonl(listed(dataset, row)[0])
    assert (entry["text"], entry["negative"], entry["checkpoint"]) == ("anime_girl", "", "")
    assert entry["file_name"] == "reg_001.webp"


def test_any_prompt_survives_in_one_line_of_jsonl_and_one_record_of_csv(tmp_path: Path) -> None:
    """With quotes, commas, every kind of line end that a reader may split at, and all of Unicode."""
    dataset = dataset_at(tmp_path, "jsonl", "csv")
    jsonl, table = listed(dataset, done(0, ODD), done(1))
    assert [one["text"] for one in read_jsonl(jsonl)] == [ODD, "a girl"]
    assert [one["text"] for one in read_csv(table)] == [ODD, "a girl"]
    assert "少女" in jsonl.read_text(encoding="utf-8")


def test_the_csv_is_beside_the_class_folder_under_its_name(tmp_path: Path) -> None:
    """Two classes under one root do not overwrite each other's file, and no trainer counts it as an image."""
    for words in ("girl", "boy"):
        dataset = dataset_at(tmp_path, "csv", **{"class": words})
        assert listed(dataset, done(0)) == [tmp_path / f"1_{words}.csv"]
        assert list(dataset.folder.iterdir()) == []
    assert read_csv(tmp_path / "1_girl.csv")[0]["file_name"] == "1_girl/reg_001.png"


def test_a_listing_replaces_the_one_before(tmp_path: Path) -> None:
    """It leaves no part file, neither beside the images nor beside the ledger."""
    dataset = dataset_at(tmp_path, "jsonl")
    put(dataset, done(0))
    write_listings(dataset, 4)
    assert len(read_jsonl(listed(dataset, done(1))[0])) == 2
    assert [path for path in tmp_path.rglob("*.part") if path.is_file()] == []


def test_no_listing_is_written_unasked(tmp_path: Path) -> None:
    """The image folder holds nothing but images by default; a kind that is named twice is written once."""
    dataset = dataset_at(tmp_path)
    assert listed(dataset, done(0)) == []
    assert listed(dataset_at(tmp_path, "csv", "csv")) == [tmp_path / "1_anime_girl.csv"]


def test_a_listing_that_cannot_be_written_is_a_sentence_and_changes_nothing(tmp_path: Path) -> None:
    """For instance a folder in its place; no part of a listing remains."""
    dataset = dataset_at(tmp_path, "jsonl")
    put(dataset, done(0))
    (dataset.folder / "metadata.jsonl" / "mine").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"metadata\.jsonl"):
        write_listings(dataset, 4)
    assert (dataset.folder / "metadata.jsonl" / "mine").is_dir()
    assert [path for path in tmp_path.rglob("*.part") if path.is_file()] == []


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """Rows go from the ledger to the file one by one."""
    dataset = dataset_at(tmp_path, "jsonl", "csv", count=20_000)
    put(dataset, *(done(idx) for idx in range(20_000)))
    tracemalloc.start()
    write_listings(dataset, 20_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_hugging_face_loads_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`load_dataset("imagefolder")` yields every image with its own text and size, in slot order, offline."""
    for name in ("HF_HOME", "HF_DATASETS_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not there: pip install -e '.[hf]'")
    dataset = dataset_at(tmp_path / "reg", "jsonl", "csv")
    rows = [done(0), done(1, ODD), done(3, None), Row(2, "given_up", 0, "reg_003", now_utc())]
    put(dataset, *rows)
    for row in rows[:3]:
        paint(dataset.folder / f"{row.name}.png", (64, 96))
    write_listings(dataset, 4)
    found = datasets.load_dataset(
        "imagefolder", data_dir=str(dataset.folder), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert [one["text"] for one in found] == ["a girl", ODD, "anime_girl"]
    assert [one["image"].size for one in found] == [(64, 96)] * 3
    assert [(one["seed"], one["width"], one["height"]) for one in found] == [(7, 64, 96), (8, 64, 96), (10, 64, 96)]
    assert [Path(one["image"].filename).name for one in found] == ["reg_001.png", "reg_002.png", "reg_004.png"]
