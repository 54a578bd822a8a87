"""A trainer's folder or dataset config becomes a training set, or all of its problems at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from reggen.errors import JobError
from reggen.kohya.buckets import Bucketing
from reggen.kohya.captions import CaptionRules
from reggen.kohya.folders import folder_name, suggested_name
from reggen.training.training_set import TrainingSet, read_training
from tests.pictures import paint, tear, write

AT_512 = Bucketing((512, 512))


def of_folder(folder: Path, bucketing: Bucketing = AT_512, ending: str = ".caption") -> TrainingSet:
    return read_training(folder, None, bucketing=bucketing, captions=CaptionRules(ending))


def of_config(tmp_path: Path, text: str, bucketing: Bucketing = AT_512) -> TrainingSet:
    file = write(tmp_path / "dataset.toml", text.replace("ROOT", tmp_path.as_posix()))
    return read_training(None, file, bucketing=bucketing)


def problems(error: pytest.ExceptionInfo[JobError]) -> str:
    return "\n".join(str(problem) for problem in error.value.problems)


def test_a_folder_is_read_as_the_trainer_reads_it(tmp_path: Path) -> None:
    """Repeats and class tokens stand in the sub-folder's name; T is the images times their repeats."""
    for n in (1, 2, 10):
        paint(tmp_path / "10_spyke girl" / f"{n}.png", (512, 768))
    write(tmp_path / "10_spyke girl" / "2.txt", "\ufeffspyke, a girl\nsecond line")
    paint(tmp_path / "2_other" / "x.webp", (300, 300))
    found = of_folder(tmp_path, ending="txt")
    spyke = [image for image in found.images if image.repeats == 10]
    assert [image.path.name for image in spyke] == ["1.png", "10.png", "2.png"], "a plain sort of strings"
    assert [image.caption for image in spyke] == ["spyke girl", "spyke girl", "spyke, a girl"]
    assert {image.bucket for image in spyke} == {(384, 640)}
    assert found.total == 32
    assert found.bucketing == AT_512


def test_a_flat_folder_is_read_with_its_repeats(tmp_path: Path) -> None:
    """As other trainers take it; without them the remedy names the key."""
    for number in range(3):
        paint(tmp_path / f"{number}.png", (512, 512))
    write(tmp_path / "1.caption", "sks")
    found = read_training(tmp_path, None, bucketing=AT_512, repeats=10)
    assert found.total == 30
    assert [image.caption for image in found.images] == ["", "sks", ""]
    with pytest.raises(JobError, match=r"for a flat folder write training\.repeats"):
        of_folder(tmp_path)
    with pytest.raises(JobError, match=r"leave training\.repeats out"):
        read_training(tmp_path.parent, None, bucketing=AT_512, repeats=10)


def test_a_folder_that_is_not_there_is_passed_over_where_others_hold_images(tmp_path: Path) -> None:
    """kohya warns and goes on; alone it is a problem."""
    paint(tmp_path / "a" / "1.png")
    (tmp_path / "empty").mkdir()
    subset = '[[datasets.subsets]]\nimage_dir = "ROOT/{}"\n'
    found = of_config(tmp_path, "[[datasets]]\n" + "".join(map(subset.format, ("a", "gone", "empty"))))
    assert found.total == 1
    assert [folder.name for folder in found.missing] == ["gone", "empty"]
    with pytest.raises(JobError, match="empty: holds no image"):
        of_config(tmp_path, "[[datasets]]\n" + subset.format("empty"))


def test_a_config_s_options_go_from_the_inside_out(tmp_path: Path) -> None:
    """Subset before dataset before general before the command line; the origin of each is kept."""
    paint(tmp_path / "a" / "1.png", (512, 768))
    paint(tmp_path / "b" / "1.png", (512, 768))
    paint(tmp_path / "reg" / "1.png")
    found = of_config(
        tmp_path,
        """
        [general]
        num_repeats = 3
        class_tokens = "girl"
        caption_extension = ".txt"
        enable_bucket = true
        flip_aug = true
        [[datasets]]
        resolution = 768
        max_bucket_reso = 1536
        batch_size = 2
          [[datasets.subsets]]
          image_dir = "ROOT/a"
          [[datasets.subsets]]
          image_dir = "ROOT/b"
          num_repeats = 5
          class_tokens = "boy"
          [[datasets.subsets]]
          image_dir = "ROOT/reg"
          is_reg = true
        [[datasets]]
        resolution = [512, 640]
        enable_bucket = false
          [[datasets.subsets]]
          image_dir = "ROOT/a"
        """,
    )
    assert [(image.repeats, image.caption, image.entry) for image in found.images] == [
        (3, "girl", 0),
        (5, "boy", 0),
        (3, "girl", 1),
    ]
    assert (found.total, found.total_of(0), found.total_of(1)) == (11, 8, 3)
    first, second = found.bucketings
    assert (first.resolution, first.max_reso, first.enabled) == ((768, 768), 1536, True)
    assert (second.resolution, second.enabled) == ((512, 640), False)
    assert found.images[0].bucket == first.bucket(512, 768)
    assert found.images[2].bucket == (512, 640)
    origins = {setting.name: setting.origin for setting in found.options[0]}
    assert origins["resolution"] == "datasets[0]"
    assert origins["enable_bucket"] == "general"
    assert "command line" in origins["bucket_reso_steps"]


def test_a_json_config_is_one_too(tmp_path: Path) -> None:
    """kohya takes both."""
    paint(tmp_path / "a" / "1.png")
    file = write(tmp_path / "d.json", f'{{"datasets": [{{"subsets": [{{"image_dir": "{tmp_path.as_posix()}/a"}}]}}]}}')
    assert read_training(None, file, bucketing=AT_512).total == 1


def test_folders_that_count_for_nothing(tmp_path: Path) -> None:
    """A folder named twice counts once; one of no repeats not at all."""
    for name in "ab":
        paint(tmp_path / name / "1.png")
    subset = '[[datasets.subsets]]\nimage_dir = "ROOT/{}"\nnum_repeats = {}\n'
    text = "[[datasets]]\n" + subset.format("a", 2) + subset.format("a", 9) + subset.format("b", 0)
    assert of_config(tmp_path, text).total == 2


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[[datasets]", "it is not a dataset config"),
        pytest.param("x = " + "[" * 100_000, "it is not a dataset config", id="nested"),
        ("", "datasets: there is none (write [[datasets]]"),
        ("[[datasets]]", "datasets[0].subsets: there is none"),
        ("datasets = 3", "datasets: 3 is not a list"),
        ("datasets = [3]", "datasets[0]: 3 is not a table"),
        ("general = 3", "general: 3 is not a table"),
        ("[general]\nnum_repeat = 3", "did you mean 'num_repeats'?"),
        ("[generals]\nnum_repeats = 3", "generals: kohya does not know this key here (did you mean 'general'?)"),
        ("[general]\nnum_repeats = 'x'", "general.num_repeats: 'x' is not a whole number"),
        ("[general]\nnum_repeats = true", "general.num_repeats: true is not a whole number"),
        ("[general]\nresolution = true", "general.resolution: true is not a resolution"),
        ("[[datasets]]\nresolution = [1, 2, 3]", "datasets[0].resolution: [1, 2, 3] is neither"),
        (
            "[[datasets]]\nenable_bucket = true\nresolution = 2048\n[[datasets.subsets]]\nimage_dir='a'",
            "AssertionError",
        ),
        ("[[datasets]]\n[[datasets.subsets]]\nmetadata_file = 'm.json'", "it is a subset of the fine-tuning"),
        ("[[datasets]]\n[[datasets.subsets]]\nis_reg = true", "image_dir: is missing"),
        ("[[datasets]]\n[[datasets.subsets]]\nimage_dir='nowhere'", "nowhere: there is no such folder (a relative"),
    ],
)
def test_a_wrong_config_is_reported_in_words(tmp_path: Path, text: str, word: str) -> None:
    """With the key, as the author wrote it."""
    with pytest.raises(JobError) as error:
        of_config(tmp_path, text)
    assert word in problems(error)


@pytest.mark.parametrize(
    ("level", "option", "word"),
    [
        ("[general]", "alpha_mask = true", "write it under [[datasets.subsets]]"),
        ("[[datasets.subsets]]", "batch_size = 2", "write it under [[datasets]] or [general]"),
        ("[[datasets.subsets]]", "color_aug = 1", "1 is not true or false"),
        ("[[datasets.subsets]]", "flip_aug = 'true'", "'true' is not true or false"),
        ("[[datasets.subsets]]", "keep_tokens = 1.0", "1.0 is not a whole number"),
        ("[[datasets.subsets]]", "caption_dropout_rate = '0.1'", "'0.1' is not a number"),
        ("[[datasets.subsets]]", "face_crop_aug_range = [1, 2]", "1 is not a number with a decimal point"),
        ("[[datasets.subsets]]", "custom_attributes = 'x'", "'x' is not a table"),
        ("[general]", "network_multiplier = 1", "1 is not a number with a decimal point"),
    ],
)
def test_options_at_which_kohya_stops_are_reported(tmp_path: Path, level: str, option: str, word: str) -> None:
    """By their level and their type, as its schema has them."""
    dataset = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'a'\n"
    text = f"{dataset}{option}" if "subsets" in level else f"{level}\n{option}\n{dataset}"
    with pytest.raises(JobError) as error:
        of_config(tmp_path, text)
    assert word in problems(error)


def test_all_problems_of_a_config_are_reported_at_once(tmp_path: Path) -> None:
    """Of every level, by their places."""
    text = "[general]\nflip = 1\n[[datasets]]\nbatch_size = 'x'\n[[datasets.subsets]]\nn = 1"
    with pytest.raises(JobError) as error:
        of_config(tmp_path, text)
    assert {problem.key for problem in error.value.problems} == {
        "general.flip",
        "datasets[0].batch_size",
        "datasets[0].subsets[0].image_dir",
        "datasets[0].subsets[0].n",
    }


def test_a_missing_config_is_reported(tmp_path: Path) -> None:
    """By name."""
    with pytest.raises(JobError, match="cannot be read"):
        read_training(None, tmp_path / "none.toml", bucketing=AT_512)


def test_one_of_folder_and_config_is_given(tmp_path: Path) -> None:
    """Not both, not neither."""
    with pytest.raises(JobError, match="either"):
        read_training(None, None, bucketing=AT_512)


def test_the_class_folder_itself_is_the_wrong_level(tmp_path: Path) -> None:
    """The commonest error: kohya finds nothing, and reggen says which folder to give."""
    paint(tmp_path / "10_spyke" / "1.png")
    with pytest.raises(JobError) as error:
        of_folder(tmp_path / "10_spyke")
    assert f"give the folder above it: {tmp_path.resolve()}" in problems(error)


@pytest.mark.parametrize(
    ("made", "word"),
    [
        ("spyke.png", "move them into a sub-folder"),
        ("spyke/a.png", "rename one, such as spyke to 1_spyke"),
        ("train/10_spyke/a.png", "it holds the folders named N_words"),
        ("10_spyke/.a.png", "make one, such as 1_words"),
        ("0_spyke/a.png", "rename one"),
    ],
)
def test_other_wrong_levels(tmp_path: Path, made: str, word: str) -> None:
    """Images loose in it, in a folder without repeats, one level too deep, hidden."""
    paint(tmp_path / made)
    with pytest.raises(JobError) as error:
        of_folder(tmp_path)
    assert word in problems(error)


def test_everything_that_would_end_the_training_is_reported_at_once(tmp_path: Path) -> None:
    """By file: an empty image, a web page, an empty caption, one in Latin-1."""
    folder = tmp_path / "1_thing"
    for name in ("a", "b"):
        paint(folder / f"{name}.png")
    write(folder / "a.caption", "")
    write(folder / "b.caption", b"caf\xe9")
    write(folder / "empty.png", "")
    write(folder / "page.png", "<html>not found</html>")
    with pytest.raises(JobError) as error:
        of_folder(tmp_path)
    text = problems(error)
    for words in ("a.caption: is empty", "b.caption: is not UTF-8", "empty.png: is empty", "page.png: is not an image"):
        assert words in text


def test_of_a_thousand_problems_the_first_are_reported(tmp_path: Path) -> None:
    """And how many more there are."""
    for n in range(30):
        write(tmp_path / "1_thing" / f"{n:02}.png", "")
    with pytest.raises(JobError) as error:
        of_folder(tmp_path)
    assert len(error.value.problems) == 21
    assert "and 10 more" in problems(error)


def test_sizes_come_from_the_header_alone(tmp_path: Path) -> None:
    """As kohya's do: a torn image has its size, and a turned photograph the size it is stored in."""
    tear(tmp_path / "1_thing" / "torn.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    paint(tmp_path / "1_thing" / "turned.jpg", (640, 320), exif=exif)
    assert [image.size for image in of_folder(tmp_path).images] == [(64, 64), (640, 320)]


def test_an_extended_webp_is_read_a_pixel_short(tmp_path: Path) -> None:
    """imagesize 1.4.1, which kohya pins, forgets the one of VP8X: without upscaling that costs a whole step."""
    exif = Image.Exif()
    exif[0x010E] = "x"
    paint(tmp_path / "1_thing" / "a.webp", (512, 512), exif=exif)
    paint(tmp_path / "1_thing" / "b.webp", (512, 512))
    extended, simple = of_folder(tmp_path, Bucketing((512, 512), no_upscale=True)).images
    assert (extended.size, extended.bucket) == ((512, 512), (448, 448))
    assert (simple.size, simple.bucket) == ((512, 512), (512, 512))


def test_options_the_trainer_would_not_start_with(tmp_path: Path) -> None:
    """Are reported before anything is read."""
    paint(tmp_path / "1_thing" / "a.png")
    with pytest.raises(JobError, match="min_bucket_reso 256 is above"):
        of_folder(tmp_path, Bucketing((128, 128)))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("10-sksw woman", "10_sksw woman"),
        ("10.x", "10_x"),
        ("10 x", "10_x"),
        ("10x sks", "10_sks"),
        ("0_x", "1_x"),
        ("girls", "1_girls"),
    ],
)
def test_a_folder_that_kohya_passes_over_gets_the_name_it_is_meant_to_have(name: str, meant: str) -> None:
    """The number in it is the repeats."""
    assert suggested_name(name) == meant
    assert folder_name(suggested_name(name))
