"""From a training set to a plan: count, sizes, texts and classes; and what keeps a run from starting."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from reggen.dataset.exports import write_listings
from reggen.diagnosis.doctor import examine
from reggen.diagnosis.scope import DoctorOptions
from reggen.engine.control import Observers
from reggen.engine.fill import fill_dataset
from reggen.errors import JobError
from reggen.job.models import Job, Prompts, Training
from reggen.kohya.captions import CaptionRules
from reggen.kohya.reg_use import reg_uses
from reggen.planning.plan import choice_counts
from reggen.prepare.prepared_job import _dumped, prepare
from reggen.report.plan_preview import format_plan
from reggen.report.trainer_input import trainer_input
from reggen.report.trainers import trainer_settings
from reggen.sim import Settings, serve
from reggen.workflow.graph import built_in
from tests.conftest import JobMaker, filled
from tests.invariants import assert_sound
from tests.pictures import paint
from tests.preparing import plan_of, prepared_of

SIZES = [(512, 512)] * 3 + [(512, 768)] * 2 + [(768, 512)]


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """Six images with ten repeats, captions with the trigger; three shapes."""
    folder = tmp_path / "train" / "10_sks boy"
    folder.mkdir(parents=True)
    for number, size in enumerate(SIZES):
        Image.effect_noise(size, 50).save(folder / f"img_{number}.png")
        (folder / f"img_{number}.txt").write_text(f"sks, 1boy, tag{number}, smile, smile", encoding="utf-8")
    return folder.parent


Matched = Callable[..., Job]


@pytest.fixture
def matched(job: JobMaker, train: Path) -> Matched:
    """A maker of jobs that take everything from the training set."""

    def make(*urls: str, classes: list[dict[str, Any]] | None = None, **sections: dict[str, Any]) -> Job:
        training = {"folder": str(train), "trigger": ["sks"], "caption_extension": ".txt", "resolution": 512}
        document = job(*urls).model_dump(by_alias=True, exclude_none=True)
        document.pop("matrix")
        document.pop("captions")
        document["sampling"] = {"checkpoint": "AnythingXL_inkBase.safetensors", "size": "match", "steps": 2}
        document["dataset"] = {"root": document["dataset"]["root"], "class": "boy", "count": "match"}
        document |= {"training": training, "prompts": {"from": "captions"}}
        for name, values in sections.items():
            document[name] = {**document.get(name, {}), **values}
        if classes:
            del document["dataset"]["class"]
            document["class"] = classes
        return Job.model_validate(document)

    return make


def test_the_count_is_what_the_trainer_uses(matched: Matched) -> None:
    """Six images, ten repeats: sixty, with the arithmetic in a sentence."""
    prepared = prepared_of(matched())
    assert len(prepared.plan) == 60
    assert prepared.arithmetic[0].startswith("6 x 10 repeats = 60 training images an epoch")


def test_repeats_of_ones_own_are_reckoned_with(matched: Matched) -> None:
    """Each image of a folder 3_boy counts three times: twenty are enough."""
    assert len(prepared_of(matched(dataset={"repeats": 3})).plan) == 20


@pytest.mark.parametrize(
    ("reg_in", "count"), [((0, 1), 60), ((), 60), ((1,), 12)], ids=["in both", "in none yet", "in the smaller one"]
)
def test_of_several_datasets_the_one_with_the_largest_need_counts(
    matched: Matched, train: Path, tmp_path: Path, reg_in: tuple[int, ...], count: int
) -> None:
    """kohya matches entry by entry: the sum would never be used. An entry without reg folders uses none."""
    folder, reg = train / "10_sks boy", tmp_path / "some_reg"
    reg.mkdir()
    lines = ["[general]", 'caption_extension = ".txt"', "resolution = 512"]
    for entry, repeats in enumerate((10, 2)):
        lines += ["[[datasets]]", "[[datasets.subsets]]", f"image_dir = {str(folder)!r}", f"num_repeats = {repeats}"]
        if entry in reg_in:
            lines += ["[[datasets.subsets]]", f"image_dir = {str(reg)!r}", "is_reg = true"]
    (tmp_path / "set.toml").write_text("\n".join(lines), encoding="utf-8")
    prepared = prepared_of(matched(training={"folder": None, "config": str(tmp_path / "set.toml")}))
    assert len(prepared.plan) == count
    assert f"6 x {count // 6} repeats = {count} training images an epoch of [[datasets]]" in prepared.arithmetic[0]
    assert "of 60, 12 images with their repeats: kohya uses regularization images for each by itself" in " / ".join(
        prepared.warnings
    )


def test_sizes_are_kohyas_buckets_in_the_same_proportion(matched: Matched) -> None:
    """512 x 768 at 512 is the bucket 384 x 640."""
    plan = prepared_of(matched()).plan
    assert Counter(sample.size for sample in plan) == {(512, 512): 30, (384, 640): 20, (640, 384): 10}


def _config(root: Path, text: str, train: Path) -> dict[str, str | None]:
    """A dataset config, as the job's [training]."""
    (root / "set.toml").write_text(
        text.replace("TRAIN", (train / "10_sks boy").as_posix()).replace("ROOT", root.as_posix()), encoding="utf-8"
    )
    return {"folder": None, "config": str(root / "set.toml")}


_ENTRY = """
[[datasets]]
resolution = {}
enable_bucket = true
  [[datasets.subsets]]
  image_dir = "TRAIN"
  caption_extension = ".txt"
  num_repeats = 10
"""
_REG = """
  [[datasets.subsets]]
  image_dir = "ROOT/old"
  is_reg = true
"""


def test_of_several_resolutions_the_plan_names_the_largest(matched: Matched, train: Path, tmp_path: Path) -> None:
    """512 and 1024: the images are made for 1024, each training image in its turn."""
    prepared = prepared_of(matched(training=_config(tmp_path, _ENTRY.format(512) + _ENTRY.format(1024), train)))
    assert prepared.arithmetic[1].startswith("sizes: of [[datasets]] 2, the largest at 1024x1024; kohya shrinks")
    assert {sample.size for sample in prepared.plan} == {(1024, 1024), (704, 1024), (1024, 704)}
    assert any("is enlarged 1.7 times" in warning for warning in prepared.warnings)


def test_images_much_larger_than_their_buckets_are_warned_of(matched: Matched) -> None:
    """The commonest mistake since SDXL: a resolution that is not the trainer's."""
    (said,) = prepared_of(matched(training={"resolution": 256})).warnings
    assert said.startswith("the median training image is 2.0 times as large as its bucket at a resolution of 256x256")


def test_matched_sizes_without_a_resolution_are_a_sentence(matched: Matched, train: Path, tmp_path: Path) -> None:
    """Neither the job nor the config says one: 512 is not assumed."""
    training = _config(tmp_path, _ENTRY.format(0).replace("resolution = 0", ""), train) | {"resolution": None}
    with pytest.raises(JobError, match=r"training\.resolution: is missing, in the config as well"):
        prepared_of(matched(training=training))
    assert len(prepared_of(matched(training=training, sampling={"size": None})).plan) == 60


def test_other_reg_folders_of_the_config_come_first(matched: Matched, train: Path, tmp_path: Path) -> None:
    """Twenty images of an older set fill twenty of sixty places; enough of them leave none."""
    for number in range(20):
        paint(tmp_path / "old" / f"{number}.png")
    training = _config(tmp_path, _ENTRY.format(512) + _REG, train)
    prepared = prepared_of(matched(training=training))
    assert len(prepared.plan) == 40
    assert f"the reg folder {tmp_path / 'old'} takes 20 first" in prepared.arithmetic[0]
    for number in range(20, 60):
        paint(tmp_path / "old" / f"{number}.png")
    with pytest.raises(JobError, match="already fill every place"):
        prepared_of(matched(training=training))


def test_a_reg_subset_of_an_entry_of_its_own_is_a_sentence(matched: Matched, train: Path, tmp_path: Path) -> None:
    """kohya uses none of its images."""
    training = _config(tmp_path, _ENTRY.format(512) + "[[datasets]]\nresolution = 512\n" + _REG, train)
    with pytest.raises(JobError, match="have no training images, so kohya uses no reg image"):
        prepared_of(matched(training=training))
    (said,) = [
        warning
        for warning in prepared_of(matched(training=training, dataset={"count": 5})).warnings
        if "reg image" in warning
    ]
    assert "[[datasets]] 2 has reg folders and no training images" in said


def test_a_training_folder_with_another_name_is_warned_of(matched: Matched, train: Path) -> None:
    """Its images are not trained; the name it is meant to have is said."""
    paint(train / "5-sks hat" / "1.png", (512, 512))
    (said,) = prepared_of(matched()).warnings
    assert said == f"kohya passes over {train / '5-sks hat'} and its 1 image; name it 5_sks hat"


def test_a_flat_folder_has_its_repeats_in_the_job(matched: Matched, train: Path) -> None:
    """The images are in training.folder itself."""
    made = matched(training={"folder": str(train / "10_sks boy"), "repeats": 4})
    assert prepared_of(made).arithmetic[0].startswith("6 x 4 repeats = 24 training images an epoch")
    text = trainer_settings("kohya-toml", trainer_input(prepare(made, "job.toml"))).text
    assert f'image_dir = "{train}/10_sks boy"\nnum_repeats = 4' in text


def test_a_config_that_does_not_name_buckets_is_warned_of(matched: Matched, train: Path, tmp_path: Path) -> None:
    """Images of several shapes are all cut to one; with the key in the job there is nothing to ask."""
    training = _config(tmp_path, _ENTRY.format(512).replace("enable_bucket = true", ""), train)
    (said,) = prepared_of(matched(training=training)).warnings
    assert said.startswith("the config does not name enable_bucket, so kohya cuts all images to one size")
    for enabled in (True, False):
        assert prepared_of(matched(training=training | {"enable_bucket": enabled})).warnings == ()


def test_a_training_folder_that_is_passed_over_is_warned_of(matched: Matched, train: Path, tmp_path: Path) -> None:
    """As kohya passes over it."""
    gone = "  [[datasets.subsets]]\n  image_dir = 'ROOT/gone'\n"
    (said,) = prepared_of(matched(training=_config(tmp_path, _ENTRY.format(512) + gone, train))).warnings
    assert said.startswith(f"there is no training folder {tmp_path / 'gone'}, so kohya passes over it")


def test_no_trigger_is_in_any_prompt_and_no_tag_comes_twice(matched: Matched) -> None:
    """The class tokens stand in its place."""
    for sample in prepared_of(matched()).plan:
        tags = (sample.positive or "").split(", ")
        assert tags[:2] == ["boy", "1boy"]
        assert "sks" not in tags
        assert len(tags) == len(set(tags))


@pytest.mark.parametrize(
    ("sections", "never_twice"),
    [
        ({"positive": "a {cat|dog}"}, True),
        ({"positive": ["a cat", "a dog"]}, True),
        ({"positive": "a {cat|cat|dog}"}, False),
        ({"positive": "a {2::cat|dog}"}, False),
        ({"positive": ["a cat", "a {black|white} dog"]}, False),
        ({"positive": [{"text": "a cat", "weight": 2}, "a dog"]}, False),
        ({"positive": "a {cat|dog|owl|cow} in a {wood|town|field}"}, True),
    ],
    ids=["choices", "a list", "equal choices", "a weight in it", "an uneven list", "a weighted list", "not all used"],
)
def test_that_nothing_comes_twice_is_said_where_it_is_so(
    job: JobMaker, sections: dict[str, Any], never_twice: bool
) -> None:
    """Weights and equal alternatives bring a prompt back before all others had their turn."""
    text = format_plan(prepared_of(job(prompts=sections, dataset={"count": 9})), "test.toml")
    assert " combinations" in text
    assert ("none twice before all are used" in text) is never_twice


def test_more_combinations_than_a_person_can_read_are_told_by_their_order(job: JobMaker) -> None:
    """Hundreds of digits say less than how many they are."""
    text = format_plan(prepared_of(job(prompts={"positive": "{a|b}" * 1_000}, dataset={"count": 1})), "test.toml")
    assert "variety      about 10^301 combinations, none twice" in text


def test_captions_that_come_more_often_than_others_are_not_said_to_come_once(matched: Matched, train: Path) -> None:
    """Ten repeats of each are rounds; ten of some and two of others are none."""
    assert "6 combinations, none twice" in format_plan(prepared_of(matched()), "test.toml")
    more = train / "2_sks boy"
    more.mkdir()
    Image.effect_noise((512, 512), 50).save(more / "other.png")
    (more / "other.txt").write_text("sks, 1boy, tree", encoding="utf-8")
    text = format_plan(prepared_of(matched()), "test.toml")
    assert "7 combinations" in text
    assert "none twice" not in text


def test_captions_end_as_the_trainer_reads_them(matched: Matched) -> None:
    """Kohya has one --caption_extension for both sets: where the job says nothing else, both end with it."""
    assert matched(captions={"write": "prompt"}).captions.extension == ".txt"
    assert matched(captions={"write": "prompt", "extension": ".caption"}).captions.extension == ".caption"
    assert prepared_of(matched(captions={"write": "prompt"})).warnings == ()


@pytest.mark.parametrize("write", ["none", "prompt"])
def test_captions_that_the_trainer_will_not_read_are_warned_of(matched: Matched, write: str) -> None:
    """The job says another ending than the trainer's; where no captions are written, nothing is lost."""
    job = matched(captions={"write": write, "extension": ".caption"})
    warnings = prepared_of(job).warnings
    if write == "none":
        assert warnings == ()
        return
    (one,) = warnings
    assert one.startswith("captions are written as .caption, but kohya reads both sets as .txt")
    assert 'captions.extension = ".txt"' in one
    assert f"WARNING      {one}" in format_plan(prepared_of(job), "test.toml")


def test_captions_with_another_ending_are_warned_of(matched: Matched, train: Path) -> None:
    """The default is kohya's, and most people's captions are .txt: prompts would be the class tokens alone."""
    (warning,) = prepared_of(matched(training={"caption_extension": ".caption"})).warnings
    assert warning == (
        "6 training images have a .txt file beside them that is not read; if the trainer reads it, set "
        'training.caption_extension = ".txt"'
    )
    for image in sorted(train.glob("*/*.png"))[1:]:
        image.with_suffix(".caption").write_text("sks, 1boy", encoding="utf-8")
    (other,) = prepared_of(matched(training={"caption_extension": ".caption"})).warnings
    assert other.startswith("a training image has a .txt file beside it that is not read")


def test_captions_without_a_named_trigger_are_warned_of(matched: Matched) -> None:
    """They would teach the trigger as the class; words of nearly every caption are named, the class tokens not."""
    beginning = "training.trigger is missing, so the captions are used unchanged; it may be among 'sks' and 'smile'"
    (warning,) = prepared_of(matched(training={"trigger": []}, dataset={"class": "1boy"})).warnings
    assert warning.startswith(beginning)
    assert prepared_of(matched()).warnings == ()
    assert prepared_of(matched(training={"trigger": []}, prompts={"from": None, "positive": "a boy"})).warnings == ()


def test_the_preview_shows_it_before_anything_runs(matched: Matched) -> None:
    """Count, buckets, the first prompts with their sizes."""
    text = format_plan(prepared_of(matched(captions={"write": "prompt"})), "test.toml")
    assert "6 x 10 repeats = 60" in text
    assert "bucket 384 x 640: 20 of 60 in training, 20 made" in text
    assert "reg_001  512 x 512" in text
    assert "each image's prompt, in reg_001.txt" in text


async def test_a_matched_set_is_made_and_the_doctor_finds_nothing(matched: Matched, train: Path) -> None:
    """Number, sizes and captions are just what kohya will use."""
    async with serve(Settings(seconds=0.002)) as sim:
        made = matched(sim.url, captions={"write": "prompt", "extension": ".txt"})
        told = await filled(made)
        assert told.summary.exit_code == 0
        prepared = prepared_of(made)
        assert_sound(prepared)
    assert made.training is not None
    buckets = made.training.command_line_bucketing
    found = examine(DoctorOptions(made.dataset.root, train, bucketing=buckets, captions=CaptionRules(".txt")))
    assert list(found.findings) == []
    caption = (prepared.dataset.folder / "reg_002.txt").read_text(encoding="utf-8")
    assert caption == prepared.plan[1].positive


async def test_a_deleted_image_takes_its_caption_and_caches_along(matched: Matched) -> None:
    """The next picture of the slot has a caption of its own, and no stale latent."""
    async with serve(Settings(seconds=0.002)) as sim:
        one = matched(sim.url, dataset={"count": 4, "repeats": 1}, captions={"write": "class"})
        await filled(one)
        folder = one.dataset.folder
        (folder / "reg_002.png").unlink()
        (folder / "reg_002_0512x0512_sd.npz").touch()
        (folder / "reg_002.txt").write_text("of the picture before", encoding="utf-8")
        await filled(one)
        assert sorted(file.name for file in folder.glob("reg_002*")) == ["reg_002.png", "reg_002.txt"]


async def test_captions_asked_for_later_are_written_beside_what_is_there(matched: Matched) -> None:
    """No image is made again for it."""
    async with serve(Settings(seconds=0.002)) as sim:
        await filled(one := matched(sim.url, dataset={"count": 3}))
        posts = sim.count("POST", "/prompt")
        await filled(matched(sim.url, dataset={"count": 3}, captions={"write": "training"}))
        assert sim.count("POST", "/prompt") == posts
        captions = sorted(file.read_text(encoding="utf-8") for file in one.dataset.folder.glob("*.txt"))
        assert captions == [f"boy, 1boy, tag{number}, smile" for number in range(3)]


async def test_a_caption_written_later_says_what_the_image_was_made_with(job: JobMaker) -> None:
    """Not what the job of today would ask for in its place. What is not in the ledger is not made up."""
    async with serve(Settings(seconds=0.002)) as sim:
        one = job(sim.url, dataset={"count": 2}, prompts={"positive": "a cat"})
        await filled(one)
        changed = {"dataset": {"count": 2}, "prompts": {"positive": "a dog"}}
        await filled(job(sim.url, captions={"write": "prompt"}, **changed))
        folder = one.dataset.folder
        assert [file.read_text(encoding="utf-8") for file in folder.glob("*.caption")] == ["a cat"] * 2
        for file in folder.glob("*.caption"):
            file.unlink()
        told = await filled(job(sim.url, captions={"write": "prompt"}, guard={"forbid": ["cat"]}, **changed))
        assert not list(folder.glob("*.caption"))
        assert "reg_001, reg_002: no caption is written" in " / ".join(told.notes)


async def test_the_training_caption_is_not_put_beside_an_image_of_another_prompt(matched: Matched) -> None:
    """It is reported instead; the class tokens fit whatever the prompt was."""
    async with serve(Settings(seconds=0.002)) as sim:
        one = matched(sim.url, dataset={"count": 2}, prompts={"prefix": "old"})
        await filled(one)
        told = await filled(matched(sim.url, dataset={"count": 2}, captions={"write": "training"}))
        assert not list(one.dataset.folder.glob("*.txt"))
        assert "no caption is written" in " / ".join(told.notes)
        await filled(matched(sim.url, dataset={"count": 2}, captions={"write": "class"}))
        assert [file.read_text(encoding="utf-8") for file in one.dataset.folder.glob("*.txt")] == ["boy"] * 2


async def test_no_prompt_is_made_up_for_an_image_that_somebody_put_there(job: JobMaker) -> None:
    """It is adopted without a prompt, and kohya takes the folder's words for it."""
    one = job(dataset={"count": 1}, captions={"write": "prompt"})
    one.dataset.folder.mkdir(parents=True)
    Image.effect_noise((64, 64), 50).resize((8, 8)).resize((64, 64)).save(one.dataset.folder / "reg_001.png")
    told = await filled(one)
    assert told.summary.reconciled.adopted == ["reg_001"]
    assert not list(one.dataset.folder.glob("*.caption"))
    assert "reg_001: no caption is written" in " / ".join(told.notes)


@pytest.mark.parametrize("content", ["", "\n", " \r\n"], ids=["no byte", "a line end", "a space"])
async def test_an_empty_caption_is_written_again(matched: Matched, content: str) -> None:
    """It would end the training; a caption with text is the user's own, and stays."""
    async with serve(Settings(seconds=0.002)) as sim:
        one = matched(sim.url, dataset={"count": 2}, captions={"write": "class"})
        await filled(one)
        (one.dataset.folder / "reg_001.txt").write_text(content, encoding="utf-8")
        (one.dataset.folder / "reg_002.txt").write_text("mine", encoding="utf-8")
        await filled(one)
        texts = [(one.dataset.folder / f"reg_00{number}.txt").read_text(encoding="utf-8") for number in (1, 2)]
        assert texts == ["boy", "mine"]


async def test_captions_take_the_ending_that_the_job_has_now(matched: Matched) -> None:
    """kohya reads one ending only, and two would differ sooner or later. What somebody wrote is kept."""
    async with serve(Settings(seconds=0.002)) as sim:
        one = matched(sim.url, dataset={"count": 2}, captions={"write": "class"})
        await filled(one)
        (one.dataset.folder / "reg_001.txt").write_text("mine", encoding="utf-8")
        (one.dataset.folder / "reg_002.txt").write_text("", encoding="utf-8")
        captions = {"write": "class", "extension": ".caption"}
        told = await filled(matched(sim.url, dataset={"count": 2}, captions=captions))
        assert "reg_001: the caption beside it now ends with .caption" in " / ".join(told.notes)
        texts = {file.name: file.read_text(encoding="utf-8") for file in one.dataset.folder.glob("*[!g]")}
        assert texts == {"reg_001.caption": "mine", "reg_002.caption": "boy"}


# ---- several classes


def test_the_count_is_shared_out_whole(matched: Matched) -> None:
    """Sixty for three classes by 1 : 1 : 2.5; nothing is lost in rounding."""
    blocks = [{"words": "boy"}, {"words": "girl"}, {"words": "dog", "share": 2.5}]
    prepared_jobs = prepare(matched(classes=blocks), "test.toml")
    assert [len(prepared.plan) for prepared in prepared_jobs] == [14, 13, 33]
    assert [prepared.dataset.folder.name for prepared in prepared_jobs] == ["1_boy", "1_girl", "1_dog"]
    assert prepared_jobs[1].plan[0].positive == "girl, 1boy, tag0, smile"


def test_classes_that_share_a_seed_and_prompts_are_not_made_of_the_same_pictures(matched: Matched) -> None:
    """No two slots and takes of any class have one seed; the first class has the seeds it would have alone."""
    blocks = [{"words": "boy"}, {"words": "girl"}, {"words": "dog"}]
    sampling = {"seed": (1 << 53) - 3}
    made = matched(classes=blocks, sampling=sampling)
    prepared_jobs = prepare(made, "test.toml")
    seeds = [
        prepared.plan.sample(slot, take).seed for prepared in prepared_jobs for slot in range(20) for take in range(3)
    ]
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) < 1 << 53
    alone = prepared_of(matched(dataset={"class": "boy"}, sampling=sampling))
    assert [sample.seed for sample in prepared_jobs[0].plan] == [alone.plan[slot].seed for slot in range(20)]


def test_a_class_may_have_prompts_of_its_own(matched: Matched) -> None:
    """Instead of the captions."""
    blocks = [{"words": "boy"}, {"words": "girl", "positive": "1girl, {red|blue} hair"}]
    boy, girl = prepare(matched(classes=blocks), "test.toml")
    assert {sample.positive for sample in girl.plan} == {"1girl, red hair", "1girl, blue hair"}
    assert "boy, 1boy, tag0, smile" in {sample.positive for sample in boy.plan}


# ---- what must not be


@pytest.mark.parametrize(
    ("sections", "where"),
    [
        ({"guard": {"forbid": ["tag3"]}}, "the prompt of reg_004"),
        ({"guard": {"forbid": ["smiles"]}, "prompts": {"suffix": "big_smiles"}}, "the prompt of reg_001"),
        ({"guard": {"forbid": ["boys", "boy"]}}, "dataset.class"),
        ({"prompts": {"from": None, "positive": "a {cat|SKS} on a mat"}}, "the prompt of"),
    ],
    ids=["a tag", "in the suffix", "the class tokens", "the trigger in a template"],
)
def test_a_forbidden_word_keeps_a_run_from_starting(matched: Matched, sections: dict[str, Any], where: str) -> None:
    """And it is said where it stands."""
    with pytest.raises(JobError) as caught:
        prepare(matched(**sections), "test.toml")
    assert caught.value.file == "test.toml"
    assert where in str(caught.value)
    assert "forbidden" in str(caught.value)


def test_forbidden_words_go_into_the_negative_prompt_when_asked(matched: Matched) -> None:
    """What stands there already is not repeated."""
    guard = {"forbid": ["red bandana", "blurry"], "negative": True}
    made = matched(guard=guard, prompts={"from": "captions", "negative": "blurry, lowres"})
    assert prepared_of(made).plan[0].negative == "blurry, lowres, red bandana, sks"


@pytest.fixture
def workflow(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """A maker of [workflow] tables: the built-in graph with texts of its own, and what is changed in it."""

    def make(positive: str = "1boy, park", negative: str = "lowres", **nodes: dict[str, Any]) -> dict[str, str]:
        graph = json.loads(json.dumps(built_in()))
        graph["4"]["inputs"]["ckpt_name"] = "AnythingXL_inkBase.safetensors"
        graph["6"]["inputs"]["text"], graph["7"]["inputs"]["text"] = positive, negative
        for node, facts in nodes.items():
            graph[node] = {**graph.get(node, {}), **facts}
        (tmp_path / "own.json").write_text(json.dumps(graph), encoding="utf-8")
        return {"file": str(tmp_path / "own.json")}

    return make


Workflows = Callable[..., dict[str, str]]


async def test_the_workflow_file_is_read_once(job: JobMaker, workflow: Workflows, tmp_path: Path) -> None:
    """What was checked is what is previewed and sent, whatever happens to the file in the meantime."""
    async with serve(Settings(seconds=0.002)) as sim:
        own = workflow("a boy")
        prepared = prepared_of(job(sim.url, workflow=own, prompts={"positive": None}, dataset={"count": 1}))
        (tmp_path / "own.json").unlink()
        assert "images       <- SaveImage (node 9)" in format_plan(prepared, "test.toml")
        summary = await fill_dataset(prepared, "test.toml", Observers())
    assert (summary.made, summary.exit_code) == (1, 0)


def test_a_recipe_of_training_captions_is_the_same_in_every_version() -> None:
    """Keys that came later count where they are used; 512 was written where no resolution was."""
    keys = "base bucket_no_upscale bucket_reso_steps caption_extension config enable_bucket folder max_bucket_reso "
    keys += "min_bucket_reso resolution trigger"
    training, prompts = Training(folder=Path("a")), Prompts()
    assert sorted(_dumped(training)) == keys.split()
    assert _dumped(training)["resolution"] == 512
    first = "negative positive prefix replace source suffix weights wildcards"
    assert sorted(_dumped(prompts)) == first.split()
    assert _dumped(Prompts(remove=("hat",)))["remove"] == ["hat"]


def test_a_recipe_is_the_same_in_every_version(job: JobMaker) -> None:
    """Ledgers keep it: another one would call all finished images made with other settings."""
    made = job(guard={"forbid": ["red hat"], "negative": True}, matrix={"sampler": ["euler", "heun"]})
    assert prepared_of(made).recipe == "330029e2c03c6302"


def test_the_workflows_own_prompt_is_read_by_the_guard(job: JobMaker, workflow: Workflows) -> None:
    """It is what is sent where the job has no prompt."""
    own = workflow("a red bandana on a boy")
    made = job(workflow=own, prompts={"positive": None}, guard={"forbid": ["red bandana"]})
    with pytest.raises(JobError, match=r"CLIPTextEncode \(node 6\)\.text: 'red bandana' at character 3 is forbidden"):
        prepare(made, "test.toml")


def test_a_prompt_of_the_jobs_own_takes_the_workflows_place_for_the_guard_too(
    job: JobMaker, workflow: Workflows
) -> None:
    """What stood in the file is not sent."""
    made = job(workflow=workflow("a red bandana on a boy"), guard={"forbid": ["red bandana"]})
    assert prepared_of(made).plan[0].positive == "a cat"


def test_every_text_of_the_positive_side_is_read(job: JobMaker, workflow: Workflows) -> None:
    """One that is joined to the prompt is sent whatever the job says; one of the negative side may say anything."""
    joined = {
        "20": {"class_type": "CLIPTextEncode", "inputs": {"text": ["21", 0], "clip": ["4", 1]}},
        "21": {"class_type": "StringConcatenate", "inputs": {"string_a": "smile", "string_b": "RED_BANDANA"}},
        "22": {
            "class_type": "ConditioningConcat",
            "inputs": {"conditioning_to": ["6", 0], "conditioning_from": ["20", 0]},
        },
    }
    sampler = built_in()["3"]
    joined["3"] = {**sampler, "inputs": {**sampler["inputs"], "positive": ["22", 0]}}
    own = {**workflow("", "red bandana", **joined), "bindings": {"positive": "6.text"}}
    made = job(workflow=own, guard={"forbid": ["red bandana"]})
    with pytest.raises(JobError, match=r"StringConcatenate \(node 21\)\.string_b") as caught:
        prepare(made, "test.toml")
    assert len(caught.value.problems) == 1


def test_a_positive_prompt_that_is_zeroed_out_is_no_negative_one(job: JobMaker, workflow: Workflows) -> None:
    """Graphs for guidance-distilled models have one text for both sides."""
    zeroed = {"7": {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["6", 0]}}}
    one = job(workflow=workflow("1boy, park", **zeroed), prompts={"positive": None, "negative": None})
    template = prepared_of(one).template
    assert (template.positive, template.negative) == ("1boy, park", "")


def test_a_prompt_of_the_workflow_that_is_not_found_is_told(job: JobMaker, workflow: Workflows) -> None:
    """The plan must not say that the guard has read it."""
    elsewhere = {"6": {"class_type": "PromptFromDisk", "inputs": {"clip": ["4", 1]}}}
    made = job(workflow=workflow(**elsewhere), prompts={"positive": None}, guard={"forbid": ["red bandana"]})
    prepared = prepared_of(made)
    assert any("the guard has not read it" in warning for warning in prepared.warnings)
    assert "no forbidden word in" not in format_plan(prepared, "test.toml")


async def test_the_workflows_own_prompt_is_the_caption_and_in_the_lists(job: JobMaker, workflow: Workflows) -> None:
    """Not only the class tokens: it is what the image was made with."""
    async with serve(Settings(seconds=0.002)) as sim:
        sections = {"prompts": {"positive": None, "negative": None}, "captions": {"write": "prompt"}}
        made = job(sim.url, workflow=workflow(), dataset={"count": 1, "listings": ["jsonl"]}, **sections)
        told = await filled(made)
        assert told.summary.exit_code == 0
    folder = made.dataset.folder
    assert (folder / "reg_001.caption").read_text(encoding="utf-8") == "1boy, park"
    (listed,) = write_listings(made.dataset, 1)
    entry = json.loads(listed.read_text(encoding="utf-8"))
    assert (entry["text"], entry["negative"]) == ("1boy, park", "lowres")


def test_forbidden_words_are_added_to_the_workflows_own_negative_prompt(
    job: JobMaker, workflow: Workflows, train: Path
) -> None:
    """They take nothing away from it, and the trigger is among them."""
    sections = {"guard": {"forbid": ["red bandana"], "negative": True}, "prompts": {"negative": None}}
    training = {"folder": str(train), "caption_extension": ".txt", "trigger": ["sks"]}
    made = job(workflow=workflow(), training=training, **sections)
    assert prepared_of(made).plan[0].negative == "lowres, red bandana, sks"


def test_a_lora_or_another_checkpoint_is_warned_of(matched: Matched, tmp_path: Path) -> None:
    """Regularization images should be the base model's own."""
    graph = json.loads(json.dumps(built_in()))
    model = next(node for node, facts in graph.items() if facts["class_type"] == "CheckpointLoaderSimple")
    sampler = next(facts for facts in graph.values() if facts["class_type"] == "KSampler")
    graph["99"] = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {"model": [model, 0], "lora_name": "x", "strength_model": 1},
    }
    sampler["inputs"]["model"] = ["99", 0]
    (tmp_path / "lora.json").write_text(json.dumps(graph), encoding="utf-8")
    made = matched(workflow={"file": str(tmp_path / "lora.json")}, training={"base": "other.safetensors"})
    prepared = prepared_of(made)
    assert "loads a LoRA" in " / ".join(prepared.prior)
    assert "'other.safetensors' is trained" in " / ".join(prepared.warnings)


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("Power Lora Loader (rgthree)", {}),
        ("CR LoRA Stack", {}),
        ("easy fullLoader", {"lora_name": "spyke.safetensors"}),
        ("Efficient Loader", {"lora_name_1": "spyke.safetensors"}),
        ("Nunchaku", {"lora_01": "sub/spyke.pt"}),
    ],
)
def test_a_node_that_loads_loras_is_known_by_its_class_or_its_inputs(
    job: JobMaker, workflow: Workflows, kind: str, inputs: dict[str, str]
) -> None:
    """Loaders of other authors have other names."""
    nodes = {"4": {"class_type": kind, "inputs": {"ckpt_name": "AnythingXL_inkBase.safetensors", **inputs}}}
    note = prepared_of(job(workflow=workflow(**nodes))).prior[0]
    assert note.startswith(f"{kind} (node 4) loads a LoRA")


def test_an_input_that_names_no_lora_is_none(job: JobMaker, workflow: Workflows) -> None:
    """Loaders with room for one say None."""
    inputs = {"ckpt_name": "AnythingXL_inkBase.safetensors", "lora_name": "None", "lora_strength": 1.0}
    loader = {"class_type": "easy fullLoader", "inputs": inputs}
    assert "LoRA" not in " ".join(prepared_of(job(workflow=workflow(**{"4": loader}))).prior)


def test_what_a_workflow_does_beside_the_job_is_planned(job: JobMaker, workflow: Workflows) -> None:
    """An upscaler, a repeated batch, a zeroed negative: each has a line in the plan, before the first post."""
    nodes = {
        "7": {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["6", 0]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["70", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["60", 0], "filename_prefix": "x"}},
        "60": {"class_type": "ImageScaleBy", "inputs": {"image": ["8", 0], "scale_by": 2.0}},
        "70": {"class_type": "RepeatLatentBatch", "inputs": {"samples": ["3", 0], "amount": 3}},
    }
    prepared = prepared_of(job(workflow=workflow(**nodes), prompts={"negative": "blurry"}))
    warnings = " / ".join(prepared.warnings)
    assert "ImageScaleBy (node 60) changes the size 2 times after the sampler, so the size check refuses" in warnings
    assert "RepeatLatentBatch (node 70) multiplies the batch 3 times" in warnings
    assert "the negative prompt has no effect: the workflow zeroes" in warnings
    assert "quality ('blurry')" in " / ".join(prepared.prior)
    plan = format_plan(prepared, "test.toml")
    for line in (
        "upscaled by  ImageScaleBy (node 60), 2 times",
        "batch times  RepeatLatentBatch",
        "no negative  zeroed",
    ):
        assert line in plan
    unchecked = prepared_of(job(workflow=workflow(**nodes), checks={"size": False}))
    assert "so images are not the size asked for" in " / ".join(unchecked.warnings)


def test_cfg_on_a_distilled_model_is_warned_of(job: JobMaker, workflow: Workflows) -> None:
    """A workflow whose own cfg is 1 burns at more; a negative prompt does nothing at 1."""
    sampler = built_in()["3"]
    nodes = {"3": {**sampler, "inputs": {**sampler["inputs"], "cfg": 1.0}}}
    high = prepared_of(job(workflow=workflow(**nodes), sampling={"cfg": 3.5}))
    assert "sampling.cfg is 3.5 and the workflow's own is 1" in " / ".join(high.warnings)
    low = prepared_of(job(workflow=workflow(**nodes), prompts={"negative": "a hat"}))
    assert "the negative prompt has no effect at cfg 1" in " / ".join(low.warnings)


def test_one_prompt_for_a_large_set_is_a_note(job: JobMaker) -> None:
    """Its images differ by their seeds only, which the plan says."""
    one = job(dataset={"count": 60}, prompts={"positive": "a cat"})
    assert "one prompt makes all 60 images" in " / ".join(prepared_of(one).prior)
    varied = job(dataset={"count": 60}, prompts={"positive": "{a|b} cat"})
    assert "one prompt" not in " / ".join(prepared_of(varied).prior)


@pytest.mark.parametrize("base", ["models/sd/AnythingXL_inkBase.safetensors", r"C:\sd\AnythingXL_inkBase.safetensors"])
def test_the_base_is_known_by_its_file_name(matched: Matched, base: str) -> None:
    """A trainer is given a path, ComfyUI a name below its own folder."""
    assert prepared_of(matched(training={"base": base})).warnings == ()


def test_repeats_in_the_class_tokens_are_noticed(job: JobMaker) -> None:
    """Somebody wrote the folder's name where the class tokens belong; 1girl and 1_ alone are no such thing."""
    (warning,) = prepared_of(job(dataset={"class": "5_cat"})).warnings
    assert "the folder becomes 1_5_cat" in warning
    assert "set dataset.repeats" in warning
    for tokens in ("1girl", "cat_5", "5"):
        assert prepared_of(job(dataset={"class": tokens})).warnings == ()


def test_a_forbidden_word_of_a_training_caption_is_traced_to_its_image(matched: Matched) -> None:
    """With what there is to do; one that the prefix brings is not blamed on it."""
    with pytest.raises(JobError) as caught:
        prepare(matched(guard={"forbid": ["tag3"]}), "test.toml")
    assert caught.value.problems[0].key == "the prompt of reg_004, from the caption of img_3.png"
    assert caught.value.problems[0].hint == 'to have it taken out, write prompts.remove = ["tag3"]'
    with pytest.raises(JobError) as caught:
        prepare(matched(guard={"forbid": ["red hat"]}, prompts={"prefix": "red hat"}), "test.toml")
    assert caught.value.problems[0].key == "the prompt of reg_001"


def test_a_training_set_that_is_not_there_is_a_sentence(job: JobMaker, tmp_path: Path) -> None:
    """Before anything else."""
    made = job(training={"folder": str(tmp_path / "nowhere")}, dataset={"count": "match"})
    with pytest.raises(JobError, match=r"training\.folder: there is no folder .*nowhere"):
        prepare(made, "test.toml")


def test_choices_are_counted_for_the_report(job: JobMaker) -> None:
    """Each value of a template, and each setting of the matrix."""
    made = job(prompts={"positive": "a {cat|dog}"}, matrix={"sampler": ["euler", "heun"]}, dataset={"count": 8})
    assert choice_counts(plan_of(made)) == {
        "{cat|dog}: cat": 4,
        "{cat|dog}: dog": 4,
        "sampler = euler": 4,
        "sampler = heun": 4,
    }


def test_classes_are_used_whole_in_whatever_order_the_trainer_lists_their_folders(matched: Matched) -> None:
    """Together they are what an epoch uses, so kohya takes each image once, whichever folder it comes to first."""
    blocks = [{"words": "boy", "share": 2}, {"words": "girl", "share": 1}]
    prepared_jobs = prepare(matched(classes=blocks), "job.toml")
    folders = [(len(prepared.plan), prepared.dataset.repeats) for prepared in prepared_jobs]
    assert [count for count, _ in folders] == [40, 20]
    for order in (folders, folders[::-1]):
        assert [set(used) for used in reg_uses(60, order)] == [{1}, {1}]
