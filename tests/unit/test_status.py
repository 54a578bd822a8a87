"""The state of a dataset, read from its ledger."""

from __future__ import annotations

from reggen.dataset.folder import Folder
from reggen.dataset.ledger import Ledger
from reggen.dataset.rows import Row, now_utc
from reggen.report.status import count_missing
from tests.conftest import JobMaker
from tests.preparing import prepared_of


def test_a_dataset_without_a_ledger_lacks_all_its_images(job: JobMaker) -> None:
    """The ledger alone is asked, which takes no time; images that are given up are still missing."""
    dataset = prepared_of(job()).dataset
    assert count_missing(dataset) == dataset.count
    folder = Folder(dataset)
    folder.prepare()
    ledger = Ledger.open(folder.state)
    ledger.slots.put([Row(0, "done", 0, "reg_001", now_utc()), Row(1, "given_up", 0, "reg_002", now_utc(), "no")])
    ledger.close()
    assert count_missing(dataset) == dataset.count - 1
