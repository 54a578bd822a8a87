"""kohya's rules, held against a second model of them that is written the slow and obvious way."""

from __future__ import annotations

from fractions import Fraction
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reggen.geometry import Size
from reggen.kohya.buckets import Bucketing
from reggen.kohya.caches import CacheName, cache_name
from reggen.kohya.captions import caption_of, caption_paths
from reggen.kohya.folders import folder_name, is_image
from reggen.kohya.reg_use import reg_uses

SIDES = st.integers(1, 5000)
FOLDERS = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 9)), max_size=4)
BUCKETING = st.builds(
    Bucketing,
    resolution=st.tuples(st.integers(64, 1600), st.integers(64, 1600)),
    min_reso=st.integers(64, 600),
    max_reso=st.integers(600, 2200),
    steps=st.sampled_from([8, 16, 32, 64, 100]),
)


def slots_filled(total: int, folders: list[Size]) -> list[list[int]]:
    """TRAINERS, 8: reg images in order until all slots are full: first each with its folder's repeats, then +1."""
    used = [[0] * count for count, _ in folders]
    order = [(folder, place) for folder, (count, _) in enumerate(folders) for place in range(count)]
    full, first = 0, True
    while order and full < total:
        for folder, place in order:
            add = folders[folder][1] if first else 1
            used[folder][place] += add
            full += add
            if full >= total:
                break
        first = False
    return used


@given(st.integers(0, 400), FOLDERS)
def test_reg_images_fill_the_slots_one_after_another(total: int, folders: list[Size]) -> None:
    """The closed form and the loop agree on every image."""
    assert reg_uses(total, folders) == slots_filled(total, folders)


def test_the_examples_of_the_rule() -> None:
    """300 images at 200: the last 100 are dropped. 120: all, once or twice. 100 at 230: two or three times."""
    assert sum(n == 0 for n in reg_uses(200, [(300, 1)])[0]) == 100
    assert reg_uses(200, [(150, 1), (150, 1)])[1] == [1] * 50 + [0] * 100
    assert sorted(set(reg_uses(200, [(120, 1)])[0])) == [1, 2]
    assert sorted(set(reg_uses(230, [(100, 1)])[0])) == [2, 3]
    assert reg_uses(5, [(4, 3)]) == [[3, 3, 0, 0]]


def grid(options: Bucketing) -> set[Size]:
    """Every pair of sides on the grid such that the second is the longest that keeps within the area and the limits."""
    step, area = options.steps, options.resolution[0] * options.resolution[1]
    low = max(n for n in range(0, options.min_reso + 1, step))
    high = next(n for n in range(0, options.max_reso + step, step) if n >= options.max_reso)
    sides = [n for n in range(0, high + 1, step) if n >= low]
    square = max(n for n in range(0, max(options.resolution) + 1, step) if n * n <= area)
    found = {(square, square)}
    for one in sides:
        if fitting := [other for other in sides if one * other <= area]:
            found |= {(one, max(fitting)), (max(fitting), one)}
    return found


@given(BUCKETING)
def test_the_predefined_buckets_are_the_grid(options: Bucketing) -> None:
    """All of them, once, sorted; or options that kohya would not start with."""
    if options.problems():
        with pytest.raises(ValueError, match=r"Error|pixels"):
            _ = options.predefined
    else:
        assert list(options.predefined) == sorted(grid(options))


@given(BUCKETING, SIDES, SIDES)
def test_an_image_goes_to_its_own_size_or_the_nearest_aspect(options: Bucketing, width: int, height: int) -> None:
    """No predefined bucket is nearer in aspect ratio, and a predefined size stays."""
    if options.problems():
        return
    bucket = options.bucket(width, height)
    if (width, height) in options.predefined:
        assert bucket == (width, height)
        return
    aspect = Fraction(width, height)
    best = min(abs(Fraction(*size) - aspect) for size in grid(options))
    assert float(abs(Fraction(*bucket) - aspect) - best) == pytest.approx(0, abs=1e-12)


@given(BUCKETING, SIDES, SIDES)
def test_without_upscaling_a_bucket_never_exceeds_its_image(options: Bucketing, width: int, height: int) -> None:
    """It lies on the grid, within the image, and about within the area of the resolution; limits are ignored."""
    options = Bucketing(options.resolution, steps=options.steps, no_upscale=True, min_reso=64, max_reso=1600)
    if min(options.resolution) < 4 * options.steps:
        return
    try:
        bucket = options.bucket(width, height)
    except ValueError:
        assert min(width, height) < options.steps or max(width, height) > 2 * min(width, height)
        return
    assert bucket[0] <= width
    assert bucket[1] <= height
    assert bucket[0] % options.steps == bucket[1] % options.steps == 0
    if width * height <= options.resolution[0] * options.resolution[1]:
        assert bucket == (width // options.steps * options.steps, height // options.steps * options.steps)


@pytest.mark.parametrize(
    ("options", "image", "bucket"),
    [
        (Bucketing((512, 512)), (512, 768), (384, 640)),
        (Bucketing((512, 512)), (2048, 256), (1024, 256)),
        (Bucketing((1024, 1024), max_reso=2048), (513, 769), (832, 1216)),
        (Bucketing((512, 512), no_upscale=True), (64, 64), (64, 64)),
        (Bucketing((512, 512), no_upscale=True), (300, 300), (256, 256)),
        (Bucketing((512, 768), enabled=False), (100, 9000), (512, 768)),
    ],
)
def test_buckets_measured_with_the_real_loader(options: Bucketing, image: Size, bucket: Size) -> None:
    """Facts, from runs of kohya itself."""
    assert options.bucket(*image) == bucket


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (Bucketing((512, 512), min_reso=576), "min_bucket_reso 576 is above"),
        (Bucketing((1536, 1024)), "max_bucket_reso 1024 is below"),
        (Bucketing((512, 512), min_reso=32), "below bucket_reso_steps 64"),
        (Bucketing((512, 512), steps=0), "bucket_reso_steps is 0"),
        (Bucketing((0, 512)), "no pixels"),
    ],
)
def test_options_kohya_would_not_start_with(options: Bucketing, word: str) -> None:
    """Each is told in words, and no bucket is invented for them."""
    assert word in options.problems()[0]
    with pytest.raises(ValueError, match=r"."):
        options.bucket(512, 512)


def test_a_smallest_bucket_just_below_the_resolution_is_rounded_down() -> None:
    """520 at steps of 64 becomes 512, so 512 starts."""
    assert Bucketing((512, 512), min_reso=520).problems() == ()


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("1_anime_character", (1, "anime_character")),
        ("03_three", (3, "three")),
        ("5", (5, "")),
        (" 2_sp", (2, "sp")),
        ("1__x", (1, "_x")),
        ("3_rejects", (3, "rejects")),
        ("0_x", None),
        ("-1_x", None),
        ("thing", None),
        ("1.5_f", None),
        (".reggen", None),
        ("", None),
    ],
)
def test_what_a_folder_s_name_means(name: str, meaning: tuple[int, str] | None) -> None:
    """Repeats and class tokens, or nothing."""
    assert folder_name(name) == meaning


@given(st.integers(1, 999), st.text(max_size=12))
def test_a_written_folder_name_reads_back(repeats: int, words: str) -> None:
    """N_words, whatever the words."""
    assert folder_name(f"{repeats}_{words}") == (repeats, words)


@pytest.mark.parametrize(
    ("name", "listed"),
    [("a.png", True), ("a.JPEG", True), ("a.Png", False), (".a.png", False), ("a.png.part", False), ("a.gif", False)],
)
def test_which_files_are_images(name: str, listed: bool) -> None:
    """By the ending alone, in lower or in upper case."""
    assert is_image(name) is listed


@given(st.lists(st.text("ab./-", min_size=1, max_size=5), min_size=1, max_size=8))
def test_the_caption_is_sought_beside_the_image_first(parts: list[str]) -> None:
    """And, where the path has five parts, under a name without the last four."""
    path = "/data/" + "_".join(parts) + "/x.png"
    names = caption_paths(path, ".txt")
    assert names[0] == str(PurePosixPath(path).with_suffix(".txt")) or "//" in path or "/." in path
    assert names[0].removesuffix(".txt") + ".png" == path
    if len(parts) < 5:
        assert len(names) == 1
    else:
        assert names[1] == "/data/" + "_".join(parts[: len(parts) - 4]) + ".txt"


@pytest.mark.parametrize(
    ("text", "caption", "lines"),
    [
        ("", None, None),
        ("\n", "", ""),
        ("\n a cat", "", "a cat"),
        (" a cat \r\nsecond\r\n", "a cat", "a cat\nsecond"),
        ("\ufeffa cat", "\ufeffa cat", "\ufeffa cat"),
        ("a\x0bb\x85c", "a\x0bb\x85c", "a\x0bb\x85c"),
    ],
)
def test_what_is_read_of_a_caption(text: str, caption: str | None, lines: str | None) -> None:
    """The first line, or with wildcards all that are not blank; a byte order mark stays; nothing is an error."""
    assert caption_of(text) == caption
    assert (caption_of(text, wildcard=True) if text else None) == lines


def test_names_of_caches() -> None:
    """Latents of old and of now, and what a text encoder made; the size stands in the name."""
    assert cache_name("reg_001.npz") == CacheName(("reg_001",))
    named = cache_name("reg_001_0512x0768_sdxl.npz")
    assert named is not None
    assert (named.stems[0], named.size, named.of_text) == ("reg_001", (512, 768), False)
    text = cache_name("reg_001_te_outputs.npz")
    assert text is not None
    assert (text.stems[0], text.of_text) == ("reg_001", True)
    assert cache_name("reg_001.png") is None


@given(st.text("a[_0*", min_size=1, max_size=6), st.sampled_from([".npz", "_0512x0768_sd.npz", "_10240x0064_flux.npz"]))
def test_a_cache_s_name_tells_its_image(stem: str, rest: str) -> None:
    """Whatever the image is called; the likeliest comes first."""
    named = cache_name(stem + rest)
    assert named is not None
    assert named.stems[0] == stem
