"""Listings of the finished images for other programs: metadata.jsonl beside them, a CSV beside their folder. Blocking.

    root/
      1_anime_character/metadata.jsonl     Hugging Face's imagefolder looks for it there and nowhere else
      1_anime_character.csv                outside: some trainers take every file in the folder for an image

Both name the images that are done, in slot order, with their caption and settings. A listing is written row by row, so
a million images need no memory, and appears whole or not at all.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from reggen.dataset.ledger import Ledger
from reggen.dataset.rows import Row
from reggen.dataset.storage import storage_errors
from reggen.files import flush_folder, replacing
from reggen.job.dataset import Dataset

_COLUMNS = ("file_name", "text", "negative", "seed", "width", "height", "checkpoint")
_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x7f\x85\u2028\u2029"}  # JSON lets them stand; readers do not

Entry = dict[str, Any]


def write_listings(dataset: Dataset, count: int) -> list[Path]:
    """Write what ``dataset.listings`` asks for, from the first ``count`` slots. Raises StorageError.

    Returns the files, in the order asked for; none where there is no ledger yet. An earlier list stays as it was when
    one cannot be written.
    """
    kinds = dict.fromkeys(dataset.listings)
    ledger = Ledger.read(dataset.state) if kinds else None
    if ledger is None:
        return []
    with ledger:
        return [_WRITERS[kind](dataset, ledger.slots.walk("done", stop=count)) for kind in kinds]


def _jsonl(dataset: Dataset, rows: Iterable[Row]) -> Path:
    def write(file: TextIO) -> None:
        entries = _entries(dataset, rows, below="")
        file.writelines(json.dumps(entry, ensure_ascii=False).translate(_LINE_ENDS) + "\n" for entry in entries)

    return _replaced(dataset, dataset.folder / "metadata.jsonl", write)


def _csv(dataset: Dataset, rows: Iterable[Row]) -> Path:
    def write(file: TextIO) -> None:
        table = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(_entries(dataset, rows, below=f"{dataset.folder.name}/"))

    return _replaced(dataset, dataset.root / f"{dataset.folder.name}.csv", write)


_WRITERS: dict[str, Callable[[Dataset, Iterable[Row]], Path]] = {"jsonl": _jsonl, "csv": _csv}


def _entries(dataset: Dataset, rows: Iterable[Row], below: str) -> Iterator[Entry]:
    """One entry for each row; its texts are never null, since readers guess a column's type from its first rows."""
    for row in rows:
        values = (
            f"{below}{row.name}.{dataset.format}",
            row.positive or dataset.class_tokens,
            row.negative or "",
            row.seed,
            row.width,
            row.height,
            row.checkpoint or "",
        )
        yield dict(zip(_COLUMNS, values, strict=True))


def _replaced(dataset: Dataset, target: Path, write: Callable[[TextIO], None]) -> Path:
    """Write a part file in the state folder, where no trainer counts it, and replace the earlier list by it."""
    part = dataset.state / f"{target.name}.part"
    with storage_errors("writing", target):
        with replacing(target, part=part, durable=True) as stream:
            text = TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", newline="")
            write(text)
            text.detach()  # flushes, and leaves the stream open
        flush_folder(target.parent)
    return target
