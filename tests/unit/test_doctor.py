"""The doctor: every kind of finding, what --fix mends, and what the command says and returns."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from reggen.cli import app
from reggen.cli.review import _command
from reggen.dataset.ledger import Ledger, ledger_file
from reggen.dataset.rows import Row
from reggen.diagnosis import inspection
from reggen.diagnosis.doctor import examine
from reggen.diagnosis.duplicates import NearDuplicates
from reggen.diagnosis.findings import KINDS, Severity
from reggen.diagnosis.fixes import apply_fixes
from reggen.diagnosis.inspection import InspectedImage
from reggen.diagnosis.model import DoctorReport, TrainingStop
from reggen.diagnosis.scope import DoctorOptions
from reggen.errors import DatasetLocked, JobError
from reggen.images import probe
from reggen.job.loader import load
from reggen.kohya.buckets import Bucketing
from reggen.prepare.prepared_job import prepare
from reggen.report.doctor_report import doctor_report_data, format_doctor_report
from reggen.training.captions import CaptionSource
from tests.gallery import cut, jpeg
from tests.gallery import picture as picture_of
from tests.pictures import paint, plain, tear, write

Build = Callable[[Path], object]
OPTIONS = Bucketing((64, 64), min_reso=64)
GIRL = "reg/1_girl"


def question(root: Path, **more: object) -> DoctorOptions:
    train = root / "train" if (root / "train").is_dir() else None
    return replace(DoctorOptions(root / "reg", train, bucketing=OPTIONS), **more)  # type: ignore[arg-type]


def kinds(found: DoctorReport) -> set[str]:
    return {finding.kind for finding in found.findings}


def files(found: DoctorReport, kind: str) -> list[str]:
    return [file.name for finding in found.findings if finding.kind == kind for file in finding.files]


def aged(path: Path, seconds: float) -> Path:
    os.utime(path, (1_700_000_000 + seconds, 1_700_000_000 + seconds))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four reg images for four slots: all is well with them."""
    for n in range(4):
        paint(tmp_path / GIRL / f"reg_00{n}.png")
    for n in range(2):
        paint(tmp_path / "train" / "2_spyke girl" / f"{n}.png")
    return tmp_path


def test_a_sound_set_is_well(root: Path) -> None:
    """Every image once, in the train images' bucket; nothing is found."""
    found = examine(question(root))
    assert (found.findings, found.well, found.stop) == ((), True, None)
    (folder,) = found.folders
    assert (folder.images, folder.used, folder.slots, folder.most) == (4, 4, 4, 1)
    assert folder.captions == {CaptionSource.CLASS_TOKENS: 4}
    assert folder.buckets == {(64, 64): 4}
    assert "All is well." in format_doctor_report(found)


def html(root: Path) -> Path:
    return write(root / GIRL / "page.png", "<html>")


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


def stale(root: Path) -> Path:
    aged(root / GIRL / "reg_000.png", 100)
    return aged(write(root / GIRL / "reg_000_0064x0064_sdxl.npz", b""), 0)


def stale_words(root: Path) -> Path:
    aged(write(root / GIRL / "reg_000.caption", "a girl"), 100)
    return aged(write(root / GIRL / "reg_000_te_outputs.npz", b""), 0)


def other_size(root: Path) -> Path:
    return write(root / GIRL / "reg_000_0512x0064_sd.npz", b"")


@pytest.mark.parametrize(
    ("kind", "build", "file"),
    [
        ("image-empty", lambda root: write(root / GIRL / "empty.png", ""), "empty.png"),
        ("image-unreadable", html, "page.png"),
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
        ("cache-stale", stale, "reg_000_0064x0064_sdxl.npz"),
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
    found = examine(question(root))
    assert file in files(found, kind), found.findings
    (finding,) = (one for one in found.findings if one.kind == kind)
    assert finding.remedy
    if finding.severity is not Severity.NOTE:
        assert not found.well


def test_a_class_of_old_things_is_no_stray(root: Path) -> None:
    """Only a name of nothing but such words looks like a leftover."""
    (root / GIRL).rename(root / "reg" / "1_old_man")
    assert examine(question(root)).well


def test_a_folder_the_job_does_not_make_is_a_stray(root: Path) -> None:
    """Unless reggen keeps a state for it: another job's class."""
    paint(root / "reg" / "1_boy" / "a.png")
    job = question(root, expected_folders=frozenset({"1_girl"}))
    assert files(examine(job), "folder-stray") == ["1_boy"]
    (root / "reg" / ".reggen" / "1_boy" / "rejected").mkdir(parents=True)
    assert files(examine(job), "folder-stray") == ["1_boy"], "--fix set something of it aside, no more"
    write(root / "reg" / ".reggen" / "1_boy" / "ledger.sqlite", b"")
    assert files(examine(job), "folder-stray") == []


@pytest.mark.parametrize("name", ["5_old boy", "1_girl backup", "1_girl_2", "2_girl (copy)"])
def test_beside_the_folder_of_a_job_every_other_one_is_a_stray(root: Path, name: str) -> None:
    """Whatever it is called: kohya trains on it. Several are named, all of them."""
    paint(root / "reg" / name / "a.png")
    paint(root / "reg" / "7_x" / "a.png")
    found = examine(question(root, expected_folders=frozenset({"1_girl"})))
    assert sorted(files(found, "folder-stray")) == sorted([name, "7_x"])


@pytest.mark.parametrize(("name", "stray"), [("1_girl backup", True), ("3_girl_old", True), ("1_old boy", False)])
def test_without_a_job_a_copy_of_another_class_folder_is_a_stray(root: Path, name: str, stray: bool) -> None:
    """Its words and one more that says what it is; an old boy is a class of his own."""
    paint(root / "reg" / name / "a.png")
    assert files(examine(question(root)), "folder-stray") == [name] * stray


def test_caches_newer_than_their_images_are_left_alone(root: Path) -> None:
    """Of latents old and new, and of captions."""
    aged(root / GIRL / "reg_000.png", 0)
    for name in ("reg_000.npz", "reg_000_0064x0064_sdxl.npz", "reg_000_flux_te.npz"):
        write(root / GIRL / name, b"")
    assert examine(question(root)).well


def test_too_many_images_are_told_with_the_arithmetic(root: Path) -> None:
    """How many, of how many, and how many would be enough."""
    for n in range(4, 10):
        paint(root / GIRL / f"reg_00{n}.png")
    found = examine(question(root))
    (finding,) = found.findings
    assert finding.kind == "unused"
    assert finding.details.startswith("6 of 10: the train images and their repeats make 4 slots")
    assert "4 images in all" in finding.remedy
    assert "4 of 10, once each; 6 never" in format_doctor_report(found)


def test_too_few_images_are_a_note(root: Path) -> None:
    """They are used several times, which is no fault."""
    (root / GIRL / "reg_003.png").unlink()
    found = examine(question(root))
    assert kinds(found) == {"uneven"}
    assert found.well
    assert "3 of 3, 1 to 2 times" in format_doctor_report(found)


def test_repeats_that_fill_all_slots_are_not_too_few_images(root: Path) -> None:
    """7 x 1 + 2 x 5 = 17 images for 17 slots: some count five times because their folder says so."""
    for n in range(4, 7):
        paint(root / GIRL / f"reg_00{n}.png")
    for n in range(2):
        paint(root / "reg" / "5_boy" / f"reg_00{n}.png")
    (root / "train" / "2_spyke girl").rename(root / "train" / "8_spyke girl")
    paint(root / "train" / "1_x" / "0.png")
    found = examine(question(root))
    assert (found.entries[0].total, sum(folder.slots for folder in found.folders)) == (17, 17)
    assert found.findings == ()


def test_the_report_says_of_each_image_whether_it_is_used_and_where_its_caption_is_from(root: Path) -> None:
    """By name for programs, all of them; for people the counts, and the names of the few that are unlike the others."""
    for n in range(4, 14):
        paint(root / GIRL / f"reg_0{n:02d}.png")
    write(root / GIRL / "reg_001.caption", "a girl")
    found = examine(question(root))
    (folder,) = doctor_report_data(found)["folders"]
    never = [f"reg_0{n:02d}.png" for n in range(4, 14)]
    assert folder["never_used"] == never
    assert len(folder["caption_sources"]) == 14
    assert folder["caption_sources"]["reg_001.png"] == "caption file"
    assert folder["caption_sources"]["reg_002.png"] == "class tokens"
    assert files(found, "unused") == never
    said = format_doctor_report(found)
    assert "1 from caption file (reg_001.png), 13 from class tokens" in said
    assert "reg_008.png and 5 more" in said


def test_sizes_no_train_image_has_are_told(root: Path) -> None:
    """And sizes that only train images have."""
    options = Bucketing((128, 128), min_reso=64)
    for n in range(4):
        paint(root / GIRL / f"reg_00{n}.png", (64, 192))
    found = examine(question(root, bucketing=options))
    assert kinds(found) == {"reg-bucket", "train-bucket"}
    assert "64x192 (4, reg only)" in format_doctor_report(found)


def test_without_a_training_set_all_are_taken_as_used(root: Path) -> None:
    """And that is said."""
    found = examine(DoctorOptions(root / "reg", bucketing=OPTIONS))
    assert [finding.kind for finding in found.findings] == ["no-training"]
    assert found.folders[0].used == 4
    assert found.well


def test_the_class_folder_itself_is_recognised(root: Path) -> None:
    """With the folder to give instead; what lies there is examined all the same."""
    found = examine(question(root, folder=root / GIRL))
    (finding,) = found.findings
    assert finding.kind == "level"
    assert str(root / "reg") in finding.remedy
    assert found.folders[0].used == 4


def test_a_level_too_high_is_recognised(root: Path) -> None:
    """The folder below is the one to give."""
    (root / "all").mkdir()
    (root / "reg").rename(root / "all" / "reg")
    found = examine(question(root, folder=root / "all"))
    assert kinds(found) == {"level"}
    assert found.root == root / "all" / "reg"


def test_images_in_a_folder_of_another_name_are_examined(root: Path) -> None:
    """As though it were the class folder; its level is what is wrong."""
    (root / GIRL).rename(root / "girls")
    tear(root / "girls" / "torn.png")
    found = examine(question(root, folder=root / "girls"))
    assert {"level", "image-truncated"} <= kinds(found)
    assert "loose" not in kinds(found)


def test_a_caption_lent_by_another_file_is_told(root: Path) -> None:
    """kohya's quirk of five parts; the file it comes from is no orphan."""
    paint(root / GIRL / "a_b_c_d_e.png")
    lent = Path("_".join(str(root / GIRL / "a_b_c_d_e").split("_")[:-4]) + ".caption")
    write(lent, "somebody else's")
    found = examine(question(root))
    assert "a_b_c_d_e.png" in files(found, "caption-other")
    assert lent.name not in files(found, "caption-orphan")


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
    asked = question(root, train=None, config=config)
    assert examine(asked).well
    assert examine(replace(asked, folder=root / GIRL)).well
    paint(root / "others" / "1_boy" / "a.png")
    found = examine(replace(asked, folder=root / "others"))
    assert "not-in-config" in kinds(found)
    assert [report.subset.folder.name for report in found.folders] == ["1_girl", "1_boy"]


@pytest.mark.parametrize("name", ["reg_001.caption", "reg_001.txt"])
def test_a_folder_where_a_caption_belongs_is_told(root: Path, name: str) -> None:
    """kohya passes over it without a word."""
    (root / GIRL / name).mkdir()
    found = examine(question(root))
    assert files(found, "caption-folder") == [name]
    assert not found.well
    assert "move them elsewhere" in format_doctor_report(found)


def test_forbidden_words_are_found_in_what_is_trained(root: Path) -> None:
    """In captions and in class tokens; the matching is the caller's."""
    write(root / GIRL / "reg_001.caption", "a girl, spyke")
    found = examine(question(root, find_forbidden=lambda text: "spyke" if "spyke" in text else None))
    assert files(found, "forbidden") == ["reg_001.caption"]


def test_forbidden_words_are_found_in_the_class_folder_whatever_its_captions_are(root: Path) -> None:
    """Its own words may come to be trained with any image that loses its caption; the folder is named once."""
    for n in range(3):
        write(root / GIRL / f"reg_00{n}.caption", "a person")
    found = examine(question(root, find_forbidden=lambda text: "girl" if "girl" in text else None))
    assert files(found, "forbidden") == ["1_girl"]
    (finding,) = found.findings
    assert finding.details == "'girl' in the class tokens 'girl'"


def test_steps_that_do_not_suit_every_model_are_a_note(root: Path) -> None:
    """kohya's own scripts check them against their model."""
    assert "steps" in kinds(examine(question(root, bucketing=replace(OPTIONS, steps=32))))


def test_the_worst_is_told_first_and_when_kohya_would_end(root: Path) -> None:
    """An end at the start weighs more than one when an image is loaded."""
    tear(root / GIRL / "reg_001.png")
    write(root / GIRL / "reg_001.txt", "a girl")
    found = examine(question(root))
    assert found.stop is TrainingStop.LOAD
    assert [finding.severity for finding in found.findings] == sorted(
        (finding.severity for finding in found.findings), key=list(Severity).index
    )
    write(root / GIRL / "reg_000.png", b"")
    assert examine(question(root)).stop is TrainingStop.START


def like(source: Path, target: Path, change: Callable[[Image.Image], Image.Image]) -> Path:
    """A changed copy of a picture."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        change(image.convert("RGB")).save(target, compress_level=1)
    return target


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "packed anew": lambda image: image,
    "JPEG": lambda image: jpeg(image, 60),
    "cut": lambda image: cut(image, 0.01, 0.5, 0.5),
    "smaller": lambda image: image.resize((230, 230)),
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A set and a training set of pictures as people have them; all is well with them."""
    for folder, numbers in ((GIRL, range(8)), ("train/8_spyke", range(8, 9))):
        (tmp_path / folder).mkdir(parents=True)
        for n in numbers:
            picture_of(n, 256).save(tmp_path / folder / f"reg_{n:03d}.png")
    return tmp_path


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize(
    ("kind", "source"),
    [("image-near-duplicate", f"{GIRL}/reg_003.png"), ("image-train-near-duplicate", "train/8_spyke/reg_008.png")],
)
def test_pictures_that_look_like_another_are_found(pictures: Path, kind: str, source: str, copy: str) -> None:
    """Of the set or of the training set; the later one is named, with the one it looks like and a remedy."""
    assert examine(question(pictures)).well
    like(pictures / source, pictures / GIRL / "reg_007.png", COPIES[copy])
    found = examine(question(pictures))
    assert files(found, kind) == ["reg_007.png"]
    (finding,) = (one for one in found.findings if one.kind == kind)
    assert finding.details.endswith(str(pictures / source))
    assert ("is the same picture as" in finding.details) is (copy == "packed anew")
    assert "the next run makes" in finding.remedy


def test_lookalikes_are_not_sought_where_nobody_minds_or_nothing_is_decoded(pictures: Path) -> None:
    """A job whose own gate is off, or --quick."""
    like(pictures / GIRL / "reg_003.png", pictures / GIRL / "reg_007.png", COPIES["JPEG"])
    for more in ({"near_duplicates": False}, {"quick": True}):
        assert files(examine(question(pictures, **more)), "image-near-duplicate") == []


def test_the_oldest_pictures_are_forgotten_where_there_are_too_many() -> None:
    """Memory does not grow with the set."""
    likes = NearDuplicates((), 2)
    for n, own in enumerate((0, 0xFF, 0xFFFF)):
        assert likes.match_of(Path(f"{n}.png"), own) is None
    assert [path.name for path in likes._paths] == ["2.png", "1.png"]


def test_quick_reads_headers_only(root: Path) -> None:
    """What shows only in the pixels is not found; copies and empty files are."""
    tear(root / GIRL / "torn.png")
    plain(root / GIRL / "night.png")
    write(root / GIRL / "empty.png", b"")
    copied(f"{GIRL}/reg_002.png")(root)
    assert kinds(examine(question(root, quick=True))) & {k for k in KINDS if k.startswith("image")} == {
        "image-empty",
        "image-duplicate",
    }


def test_progress_is_told_to_the_last_image(root: Path) -> None:
    """Done and total, in order."""
    steps: list[tuple[int, int]] = []
    examine(question(root), progress=lambda done, total: steps.append((done, total)))
    assert steps == [(n, 4) for n in range(1, 5)]


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"folder": Path("nowhere")}, "there is no such folder"),
        ({"bucketing": Bucketing((32, 32))}, "kohya does not start"),
        ({"config": Path("x.toml")}, "give either --config or --train"),
    ],
)
def test_what_cannot_be_examined_is_told(root: Path, more: dict[str, object], word: str) -> None:
    """As a problem of the question, with nothing examined."""
    with pytest.raises(JobError, match=word):
        examine(question(root, **more))


def test_fix_mends_what_loses_nothing(root: Path) -> None:
    """Caches, parts, marks and empty captions go; bad images move aside with their captions; the rest stays."""
    folder = root / GIRL
    stale(root)
    for name in ("gone.npz", "x.png.part", "reg_001.caption"):
        write(folder / name, b"")
    write(folder / "reg_002.caption", "\ufeffa girl")
    write(tear(folder / "torn.png").with_suffix(".caption"), "\ufeffhers")
    write(folder / "torn_0064x0064_sd.npz", b"")
    plain(folder / "night.png")
    html(root)
    known: dict[Path, InspectedImage] = {}
    found = examine(question(root), known=known)
    assert all("girl" in done for done in apply_fixes(found))
    after = examine(question(root), known=known)
    assert kinds(after) == {"image-unreadable", "unused"}
    assert sorted(file.name for file in folder.iterdir()) == [
        "page.png",
        *(f"reg_00{n}.png" for n in range(2)),
        "reg_002.caption",
        "reg_002.png",
        "reg_003.png",
    ]
    assert (folder / "reg_002.caption").read_bytes() == b"a girl"
    aside = root / "reg" / ".reggen" / "1_girl" / "rejected"
    assert sorted(file.name for file in aside.iterdir()) == ["night.png", "torn.caption", "torn.png"]


@pytest.fixture
def made(root: Path) -> Path:
    """The four images as reggen made them: a ledger beside them knows each."""
    state = root / "reg" / ".reggen" / "1_girl"
    state.mkdir(parents=True)
    with Ledger.open(state) as ledger:
        for n in range(1, 4):
            data = (root / GIRL / f"reg_00{n}.png").read_bytes()
            sha = hashlib.sha256(data).hexdigest()
            ledger.slots.put([Row(n - 1, "done", 0, f"reg_00{n}", "2026", bytes=len(data), sha256=sha)])
    return root


def harmed(path: Path, at: float, content: bytes) -> None:
    """Other bytes in a file that stays as long as it was."""
    data = bytearray(path.read_bytes())
    start = int(len(data) * at)
    data[start : start + len(content)] = content
    path.write_bytes(data)


@pytest.mark.parametrize("content", [b"\x07", bytes(40)], ids=["a byte", "NULs"])
def test_damage_that_changes_no_size_is_found_by_the_ledger(
    made: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a decoder says something or not; with a remedy that can be pasted, and --fix sets it aside."""
    assert kinds(examine(question(made))) == set()
    harmed(made / GIRL / "reg_002.png", 0.6, content)
    monkeypatch.setattr(
        inspection, "read_pixels", lambda path: replace(probe.read_pixels(path), flaws=())
    )  # a decoder that is content
    found = examine(question(made, redo_command="python -m reggen redo girl.toml"))
    assert files(found, "image-changed") == ["reg_002.png"]
    assert not found.well
    assert "python -m reggen redo girl.toml 2" in format_doctor_report(found)
    assert doctor_report_data(found)["findings"][0]["fixed_by_fix"] is True
    assert [done for done in apply_fixes(found) if "rejected" in done]
    assert kinds(examine(question(made))) == {"uneven"}


def test_damage_is_told_once(made: Path) -> None:
    """What a decoder finds is said in its words alone."""
    harmed(made / GIRL / "reg_002.png", 0.0, bytes(64))
    assert kinds(examine(question(made))) == {"image-unreadable"}


def test_a_changed_size_is_left_to_the_run(made: Path) -> None:
    """It checks the image anew; somebody may have painted over a blemish."""
    paint(made / GIRL / "reg_002.png", (128, 64))
    found = examine(question(made, bucketing=Bucketing((64, 64), enabled=False)))
    assert files(found, "image-edited") == ["reg_002.png"]
    assert found.well


def test_hashes_are_left_alone_where_they_cannot_be_right(made: Path) -> None:
    """Headers only, or a run that fills the folder just now; an image without a row has none."""
    harmed(made / GIRL / "reg_002.png", 0.6, bytes(40))
    assert "image-changed" not in kinds(examine(question(made, quick=True)))
    state = made / "reg" / ".reggen" / "1_girl"
    with filelock.FileLock(state / "lock"):
        assert "image-changed" not in kinds(examine(question(made)))


def test_a_damaged_ledger_is_a_finding(made: Path) -> None:
    """The rest is examined all the same, and the ledger is not touched."""
    ledger = ledger_file(made / "reg" / ".reggen" / "1_girl")
    ledger.write_bytes(b"no database at all " * 400)
    found = examine(question(made))
    assert kinds(found) == {"ledger-damaged"}
    assert ledger.read_bytes() == b"no database at all " * 400


def test_fix_leaves_an_empty_caption_without_class_tokens(root: Path) -> None:
    """The image would be trained under no caption at all: a person decides."""
    paint(root / "reg" / "5" / "a.png")
    write(root / "reg" / "5" / "a.caption", b"")
    assert list(apply_fixes(examine(question(root)))) == []


def test_fix_waits_for_a_run(root: Path) -> None:
    """A folder that is being filled is not touched."""
    state = root / "reg" / ".reggen" / "1_girl"
    state.mkdir(parents=True)
    write(root / GIRL / "x.part", b"")
    with filelock.FileLock(state / "lock"), pytest.raises(DatasetLocked):
        list(apply_fixes(examine(question(root))))
    assert (root / GIRL / "x.part").exists()


def test_every_kind_says_what_and_what_to_do() -> None:
    """A remedy of its own, or one that is made for the case; kinds of flaws and faults are all there."""
    assert {kind for kind, one in KINDS.items() if not one.remedy} == {"level", "unused", "uneven"}
    assert {str(flaw) for flaw in probe.ImageFlaw} <= set(KINDS)


def test_the_report_for_programs_is_json(root: Path) -> None:
    """Everything is in it, as plain data."""
    tear(root / GIRL / "torn.png")
    made = json.loads(json.dumps(doctor_report_data(examine(question(root)))))
    assert made["well"] is False
    assert made["datasets"][0]["train_slots"] == 4
    assert made["folders"][0]["captions"] == {"class tokens": 5}
    assert made["findings"][0]["kind"] == "image-truncated"
    assert made["findings"][0]["fixed_by_fix"] is True


def run(*arguments: object) -> Result:
    options = ["--resolution", "64", "--min-bucket-reso", "64"]
    return CliRunner().invoke(app, ["doctor", *map(str, arguments), *options])


def test_the_command_returns_whether_all_is_well(root: Path) -> None:
    """0 or 1; with --fix, what is left decides."""
    sound = run(root / "reg", "--train", root / "train")
    assert (sound.exit_code, "All is well." in sound.stdout) == (0, True)
    write(root / GIRL / "x.part", b"")
    assert run(root / "reg", "--train", root / "train").exit_code == 1
    mended = run(root / "reg", "--train", root / "train", "--fix")
    assert mended.exit_code == 0
    assert "removed" in mended.stdout


def test_the_command_gives_json_and_nothing_else(root: Path) -> None:
    """On stdout, whatever --fix does."""
    write(root / GIRL / "x.part", b"")
    assert json.loads(run(root / "reg", "--json", "--fix").stdout)["well"] is True


def a_job(root: Path, more: str = "") -> Path:
    """A job that fills the set with the class girl; ``more`` are sections of its file."""
    return write(
        root / "job.toml",
        f"""
        [dataset]
        root = "{(root / "reg").as_posix()}"
        class = "girl"
        count = 4
        [sampling]
        checkpoint = "a.safetensors"
        [prompts]
        positive = "a girl"
        {more}
        """,
    )


def by_folder(root: Path, more: str = "") -> str:
    """A training section for `a_job`, of the train folder."""
    return f'[training]\nfolder = "{(root / "train").as_posix()}"\nresolution = 64\nmin_bucket_reso = 64\n{more}'


def test_images_that_fix_took_out_are_missing_and_it_says_what_is_next(root: Path) -> None:
    """All is not well then: the set is smaller than the job wants it, until the job has run."""
    tear(root / GIRL / "reg_002.png", 0.5)
    write(root / GIRL / "reg_003.png", b"")
    said = run(job := a_job(root), "--fix")
    assert said.exit_code == 1
    assert said.stdout.splitlines()[-1].endswith(f"2 images were taken out, and are missing now. Next: {again(job)}")
    assert "All is well" not in said.stdout
    assert run(job, "--fix").exit_code == 0, "what is missing is no fault of the images that are there"


def test_what_fix_took_out_is_told_to_programs_and_of_plain_folders(root: Path) -> None:
    """Where no job is known the command is not, either; a rehearsal goes on as one."""
    write(root / GIRL / "reg_003.png", b"")
    told = run(root / "reg", "--json", "--fix")
    assert (told.exit_code, json.loads(told.stdout)["taken_out"]) == (1, 1)
    assert "run the job that fills this folder again" in told.stderr
    write(root / GIRL / "reg_002.png", b"")
    state = root / "reg" / ".reggen" / "1_girl"
    with Ledger.open(state) as ledger:
        ledger.facts.put({"rehearsal": True})
    assert f"{again(root / 'job.toml')} --rehearse" in run(a_job(root), "--fix").stdout


def test_before_the_first_run_the_doctor_says_so(root: Path) -> None:
    """There is nothing to be examined yet, and nothing wrong with the job."""
    done = CliRunner().invoke(app, ["doctor", str(job := a_job(root)), "--output", str(root / "nothere")])
    assert isinstance(done.exception, JobError)
    assert f"run it first: python -m reggen run {job} --output" in str(done.exception)
    assert str(done.exception).startswith(str(job))


def test_a_forbidden_word_that_is_none_is_told_with_where_it_stands(root: Path) -> None:
    """In the job's file, or on the command line."""
    job = a_job(root, '[guard]\nforbid = ["!!!"]')
    for typed, where in (([str(job)], str(job)), ([str(root / "reg"), "--forbid", "!!!"], "the command line")):
        done = CliRunner().invoke(app, ["doctor", *typed])
        assert isinstance(done.exception, JobError)
        assert str(done.exception).startswith(f"{where} has one problem:")


def again(job: Path) -> str:
    """The command that runs a job, for this system's shell."""
    return _command("run", str(job), None)


def ask(*arguments: object) -> dict[str, Any]:
    """What the doctor says to a command line, for programs."""
    done = CliRunner().invoke(app, ["doctor", *map(str, arguments), "--json"])
    assert not isinstance(done.exception, Exception), done.exception
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_the_command_takes_a_job(root: Path) -> None:
    """Its root is the folder, and its class folder the only one it expects."""
    job = a_job(root)
    assert run(job).exit_code == 0
    paint(root / "reg" / "1_boy" / "a.png")
    assert "the job does not make it" in run(job).stdout


def test_the_command_says_how_damaged_images_are_made_again(made: Path) -> None:
    """By the job and the numbers, as they are to be typed."""
    with Ledger.open(made / "reg" / ".reggen" / "1_girl") as ledger:
        rows = [replace(row, sha256="00" * 32) for row in ledger.slots.walk("done") if row.idx]
        ledger.slots.put(rows)
    said = run(job := a_job(made))
    assert said.exit_code == 1
    assert f"python -m reggen redo {job} 2 3" in " ".join(said.stdout.split())


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ((), "resolution", [64, 64]),
        (("--resolution", "128,192"), "resolution", [128, 192]),
        ((), "enable_bucket", True),
        (("--no-bucket",), "enable_bucket", False),
        (("--max-bucket-reso", "640"), "max_bucket_reso", 640),
        (("--bucket-reso-steps", "32"), "bucket_reso_steps", 32),
        ((), "bucket_no_upscale", True),
        (("--bucket-upscale",), "bucket_no_upscale", False),
    ],
)
def test_options_go_over_what_the_job_says(root: Path, options: tuple[str, ...], key: str, value: object) -> None:
    """Each by itself: the others stay the job's, its training set too."""
    told = ask(a_job(root, by_folder(root, "bucket_no_upscale = true")), *options)["datasets"][0]
    assert told[key] == value
    assert told["min_bucket_reso"] == 64
    assert told["train_slots"] == 4


def test_the_caption_ending_of_the_command_line_goes_over_the_jobs(root: Path) -> None:
    """The job's own is that of its training set, else that of the captions it writes."""
    job = a_job(root, by_folder(root, 'caption_extension = ".txt"'))
    assert ask(job)["folders"][0]["caption_extension"] == ".txt"
    assert ask(job, "--caption-extension", ".caption")["folders"][0]["caption_extension"] == ".caption"
    job = a_job(root, '[captions]\nwrite = "class"\nextension = ".txt"')
    assert ask(job)["folders"][0]["caption_extension"] == ".txt"


def test_forbidden_words_of_the_command_line_add_to_the_jobs(root: Path) -> None:
    """Each of the two is found."""
    job = a_job(root, '[guard]\nforbid = ["bandana"]')
    write(root / GIRL / "reg_000.caption", "a bandana")
    write(root / GIRL / "reg_001.caption", "a cloak")
    told = {Path(file).name for one in ask(job, "--forbid", "cloak")["findings"] for file in one["files"]}
    assert told == {"reg_000.caption", "reg_001.caption"}


def test_an_output_belongs_to_a_job(root: Path) -> None:
    """A folder is named already: it is not dropped in silence."""
    with pytest.raises(JobError, match="goes with a job"):
        CliRunner().invoke(app, ["doctor", str(root / "reg"), "--output", "x"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("general", "training", "option", "buckets"),
    [
        ("", "", (), False),
        ("enable_bucket = true", "", (), True),
        ("", "enable_bucket = true", ("--bucket",), True),
        ("enable_bucket = false", "enable_bucket = true", ("--bucket",), False),
    ],
)
def test_a_config_decides_on_buckets_for_plan_job_and_folder_alike(
    root: Path, general: str, training: str, option: tuple[str, ...], buckets: bool
) -> None:
    """kohya's rule: what the config says; where it is silent the command line, whose default is none."""
    config = write(
        root / "dataset.toml",
        f"""
        [general]
        resolution = 64
        min_bucket_reso = 64
        {general}
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
    job = a_job(root, f'[training]\nconfig = "{config.as_posix()}"\n{training}')
    (prepared,) = prepare(load(job), str(job))
    assert prepared.training_set is not None
    assert prepared.training_set.bucketing.enabled is buckets
    assert ask(job)["datasets"][0]["enable_bucket"] is buckets
    assert ask(root / "reg", "--config", config, *option)["datasets"][0]["enable_bucket"] is buckets


def test_a_resolution_that_is_none_is_told(root: Path) -> None:
    """In words."""
    result = CliRunner().invoke(app, ["doctor", str(root / "reg"), "--resolution", "big"])
    assert isinstance(result.exception, JobError)
