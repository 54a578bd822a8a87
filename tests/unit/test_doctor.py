"""The doctor finds what is wrong with a set, image by image and as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from reggen.diagnosis.doctor import examine
from reggen.diagnosis.findings import KINDS, Severity
from reggen.diagnosis.model import TrainingStop
from reggen.errors import JobError
from reggen.images import probe
from reggen.kohya.buckets import Bucketing
from reggen.kohya.captions import CaptionRules
from reggen.report.doctor_report import doctor_report_data, format_doctor_report
from reggen.training.captions import CaptionSource
from tests.pictures import paint, plain, tear, write
from tests.reg_sets import (
    GIRL,
    aged,
    build_set,
    files,
    kinds,
    options_for,
    stale_cache,
    web_page,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build_set(tmp_path)


Build = Callable[[Path], object]


def test_a_sound_set_is_well(root: Path) -> None:
    """Every image once, in the train images' bucket; nothing is found."""
    found = examine(options_for(root))
    assert (found.findings, found.well, found.stop) == ((), True, None)
    (folder,) = found.folders
    assert (folder.images, folder.used, folder.slots, folder.most) == (4, 4, 4, 1)
    assert folder.captions == {CaptionSource.CLASS_TOKENS: 4}
    assert folder.buckets == {(64, 64): 4}
    assert "All is well." in format_doctor_report(found)


def latin(root: Path) -> Path:
    return write(root / GIRL / "reg_000.caption", b"caf\xe9")


def copied(source: str) -> Build:
    return lambda root: write(root / GIRL / "zcopy.png", (root / source).read_bytes())


def turned(root: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    return paint(root / GIRL / "turned.jpg", exif=exif)


def without_end(root: Path) -> Path:
    file = root / GIRL / "reg_000.png"
    return write(file, file.read_bytes()[:-12])


def stale_words(root: Path) -> Path:
    aged(write(root / GIRL / "reg_000.caption", "a girl"), 100)
    return aged(write(root / GIRL / "reg_000_te_outputs.npz", b""), 0)


def other_size(root: Path) -> Path:
    return write(root / GIRL / "reg_000_0512x0064_sd.npz", b"")


@pytest.mark.parametrize(
    ("kind", "build", "file"),
    [
        ("image-empty", lambda root: write(root / GIRL / "empty.png", ""), "empty.png"),
        ("image-unreadable", web_page, "page.png"),
        ("image-unreadable", lambda root: (root / GIRL / "folder.png").mkdir(), "folder.png"),
        ("image-truncated", lambda root: tear(root / GIRL / "torn.png"), "torn.png"),
        ("image-truncated", lambda root: tear(root / GIRL / "torn.webp"), "torn.webp"),
        ("image-cut", without_end, "reg_000.png"),
        ("image-black", lambda root: plain(root / GIRL / "night.png", (2, 1, 0)), "night.png"),
        ("image-flat", lambda root: plain(root / GIRL / "grey.png", (90, 90, 90)), "grey.png"),
        ("image-ending", lambda root: paint(root / GIRL / "lies.png", kind="JPEG"), "lies.png"),
        ("image-turned", turned, "turned.jpg"),
        ("image-duplicate", copied(f"{GIRL}/reg_002.png"), "zcopy.png"),
        ("image-train-duplicate", copied("train/2_spyke girl/1.png"), "zcopy.png"),
        ("caption-empty", lambda root: write(root / GIRL / "reg_000.caption", ""), "reg_000.caption"),
        ("caption-not-utf8", latin, "reg_000.caption"),
        ("caption-blank", lambda root: write(root / GIRL / "reg_000.caption", " \na girl"), "reg_000.caption"),
        ("caption-bom", lambda root: write(root / GIRL / "reg_000.caption", "\ufeffa girl"), "reg_000.caption"),
        ("caption-unread", lambda root: write(root / GIRL / "reg_000.txt", "a girl"), "reg_000.txt"),
        ("caption-orphan", lambda root: write(root / GIRL / "gone.caption", "a girl"), "gone.caption"),
        ("caption-none", lambda root: paint(root / "reg" / "5" / "a.png"), "a.png"),
        ("cache-stale", stale_cache, "reg_000_0064x0064_sdxl.npz"),
        ("cache-stale", stale_words, "reg_000_te_outputs.npz"),
        ("cache-stale", other_size, "reg_000_0512x0064_sd.npz"),
        ("cache-orphan", lambda root: write(root / GIRL / "reg_099.npz", b""), "reg_099.npz"),
        ("parts", lambda root: write(root / GIRL / "reg_009.png.part", b""), "reg_009.png.part"),
        ("loose", lambda root: paint(root / "reg" / "loose.png"), "loose.png"),
        ("nested", lambda root: paint(root / GIRL / "more" / "a.png"), "more"),
        ("unlisted", lambda root: paint(root / GIRL / "a.Png", kind="PNG"), "a.Png"),
        ("unlisted", lambda root: paint(root / GIRL / "a.gif"), "a.gif"),
        ("folder-stray", lambda root: paint(root / "reg" / "3_rejects" / "a.png"), "3_rejects"),
        ("folder-stray", lambda root: paint(root / "reg" / "2024_old" / "a.png"), "2024_old"),
        ("folder-skipped", lambda root: paint(root / "reg" / "thing" / "a.png"), "thing"),
        ("folder-skipped", lambda root: paint(root / "reg" / "0_x" / "a.png"), "0_x"),
        ("folder-empty", lambda root: (root / "reg" / "1_boy").mkdir(), "1_boy"),
    ],
)
def test_what_is_wrong_is_found_by_name(root: Path, kind: str, build: Build, file: str) -> None:
    """Each kind of finding names its file, has a remedy, and decides whether all is well."""
    build(root)
    found = examine(options_for(root))
    assert file in files(found, kind), found.findings
    (finding,) = (one for one in found.findings if one.kind == kind)
    assert finding.remedy
    if finding.severity is not Severity.NOTE:
        assert not found.well


def test_the_class_folder_itself_is_recognised(root: Path) -> None:
    """With the folder to give instead; what lies there is examined all the same."""
    found = examine(options_for(root, folder=root / GIRL))
    (finding,) = found.findings
    assert finding.kind == "level"
    assert str(root / "reg") in finding.remedy
    assert found.folders[0].used == 4


def test_a_level_too_high_is_recognised(root: Path) -> None:
    """The folder below is the one to give."""
    (root / "all").mkdir()
    (root / "reg").rename(root / "all" / "reg")
    found = examine(options_for(root, folder=root / "all"))
    assert kinds(found) == {"level"}
    assert found.root == root / "all" / "reg"


def test_images_in_a_folder_of_another_name_are_examined(root: Path) -> None:
    """As though it were the class folder; its level is what is wrong."""
    (root / GIRL).rename(root / "girls")
    tear(root / "girls" / "torn.png")
    found = examine(options_for(root, folder=root / "girls"))
    assert {"level", "image-truncated"} <= kinds(found)
    assert "loose" not in kinds(found)


def test_a_config_names_its_reg_folders(root: Path) -> None:
    """Folder names mean nothing then; a folder that no subset names is not read."""
    config = write(
        root / "dataset.toml",
        f"""
        [general]
        resolution = 64
        enable_bucket = false
        [[datasets]]
        [[datasets.subsets]]
        image_dir = "{root.as_posix()}/train/2_spyke girl"
        num_repeats = 2
        [[datasets.subsets]]
        image_dir = "{root.as_posix()}/{GIRL}"
        class_tokens = "girl"
        is_reg = true
        """,
    )
    asked = options_for(root, train=None, config=config)
    assert examine(asked).well
    assert examine(replace(asked, folder=root / GIRL)).well
    paint(root / "others" / "1_boy" / "a.png")
    found = examine(replace(asked, folder=root / "others"))
    assert "not-in-config" in kinds(found)
    assert [report.subset.folder.name for report in found.folders] == ["1_girl", "1_boy"]


def test_forbidden_words_are_found_in_what_is_trained(root: Path) -> None:
    """In captions and in class tokens; the matching is the caller's."""
    write(root / GIRL / "reg_001.caption", "a girl, spyke")
    found = examine(options_for(root, find_forbidden=lambda text: "spyke" if "spyke" in text else None))
    assert files(found, "forbidden") == ["reg_001.caption"]


def test_forbidden_words_are_found_in_the_class_folder_whatever_its_captions_are(root: Path) -> None:
    """Its own words may come to be trained with any image that loses its caption; the folder is named once."""
    for n in range(3):
        write(root / GIRL / f"reg_00{n}.caption", "a person")
    found = examine(options_for(root, find_forbidden=lambda text: "girl" if "girl" in text else None))
    assert files(found, "forbidden") == ["1_girl"]
    (finding,) = found.findings
    assert finding.details == "'girl' in the class tokens 'girl'"


def test_the_worst_is_reported_first_and_when_kohya_would_end(root: Path) -> None:
    """An end at the start weighs more than one when an image is loaded."""
    tear(root / GIRL / "reg_001.png")
    write(root / GIRL / "reg_001.txt", "a girl")
    found = examine(options_for(root))
    assert found.stop is TrainingStop.LOAD
    assert [finding.severity for finding in found.findings] == sorted(
        (finding.severity for finding in found.findings), key=list(Severity).index
    )
    write(root / GIRL / "reg_000.png", b"")
    assert examine(options_for(root)).stop is TrainingStop.START


def test_quick_reads_headers_only(root: Path) -> None:
    """What shows only in the pixels is not found; copies and empty files are."""
    tear(root / GIRL / "torn.png")
    plain(root / GIRL / "night.png")
    write(root / GIRL / "empty.png", b"")
    copied(f"{GIRL}/reg_002.png")(root)
    assert kinds(examine(options_for(root, quick=True))) & {k for k in KINDS if k.startswith("image")} == {
        "image-empty",
        "image-duplicate",
    }


def test_progress_is_reported_to_the_last_image(root: Path) -> None:
    """Done and total, in order."""
    steps: list[tuple[int, int]] = []
    examine(options_for(root), progress=lambda done, total: steps.append((done, total)))
    assert steps == [(n, 4) for n in range(1, 5)]


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"folder": Path("nowhere")}, "there is no such folder"),
        ({"bucketing": Bucketing((32, 32))}, "kohya does not start"),
        ({"config": Path("x.toml")}, "give either --config or --train"),
    ],
)
def test_what_cannot_be_examined_is_reported(root: Path, more: dict[str, object], word: str) -> None:
    """As a problem of the question, with nothing examined."""
    with pytest.raises(JobError, match=word):
        examine(options_for(root, **more))


def test_every_kind_says_what_and_what_to_do() -> None:
    """A remedy of its own, or one that is made for the case; kinds of flaws and faults are all there."""
    assert {kind for kind, one in KINDS.items() if not one.remedy} == {"level", "unused", "uneven"}
    assert {str(flaw) for flaw in probe.ImageFlaw} <= set(KINDS)


def test_the_report_for_programs_is_json(root: Path) -> None:
    """Everything is in it, as plain data."""
    tear(root / GIRL / "torn.png")
    made = json.loads(json.dumps(doctor_report_data(examine(options_for(root)))))
    assert made["well"] is False
    assert made["datasets"][0]["train_slots"] == 4
    assert made["folders"][0]["captions"] == {"class tokens": 5}
    assert made["findings"][0]["kind"] == "image-truncated"
    assert made["findings"][0]["fixed_by_fix"] is True


def test_a_prefix_with_the_trigger_is_an_error(root: Path) -> None:
    """kohya puts the prefix of [general] before reg captions as well; an empty one in the reg subset undoes it."""
    text = f"""
        [general]
        resolution = 64
        caption_prefix = "spyke,"
        [[datasets]]
        [[datasets.subsets]]
        image_dir = "{root.as_posix()}/train/2_spyke girl"
        num_repeats = 2
        [[datasets.subsets]]
        image_dir = "{root.as_posix()}/{GIRL}"
        class_tokens = "girl"
        is_reg = true
        """
    config = write(root / "dataset.toml", text)
    asked = options_for(
        root, train=None, config=config, find_forbidden=lambda said: "spyke" if "spyke" in said else None
    )
    found = examine(asked)
    assert files(found, "forbidden-around") == ["1_girl"]
    assert "'spyke' in 'spyke, girl', as it is trained" in found.findings[0].details
    write(root / GIRL / "reg_001.caption", "a girl")
    assert files(examine(asked), "forbidden-around") == ["1_girl"]
    write(config, text + '        caption_prefix = ""\n')
    assert examine(asked).well


def test_each_line_of_a_wildcard_caption_is_looked_at(root: Path) -> None:
    """With enable_wildcard any line may be trained, and any of its choices."""
    write(root / GIRL / "reg_001.caption", "a girl\na {red|spyke} girl")
    asked = options_for(root, find_forbidden=lambda said: "spyke" if "spyke" in said else None)
    assert examine(asked).well
    found = examine(replace(asked, captions=CaptionRules(wildcard=True)))
    assert files(found, "forbidden") == ["reg_001.caption"]
