"""Layouts of training and reg folders, the odd ones among them, each with the trainer's options for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from reggen.diagnosis.scope import DoctorOptions
from reggen.geometry import Size
from reggen.kohya.buckets import Bucketing
from reggen.kohya.captions import PLAIN_CAPTIONS, CaptionRules
from reggen.kohya.validation import NO_SPLIT, ValidationSplit
from tests.pictures import paint, plain, tear, write


@dataclass(frozen=True, slots=True)
class Layout:
    """One situation: what lies under ``root`` after ``build``, and what the trainer is told."""

    name: str
    build: Callable[[Path], None]
    bucketing: Bucketing = field(default_factory=lambda: Bucketing((256, 256), min_reso=128))
    ending: str = ".caption"
    reg: str = "reg"
    config: str = ""
    captions: CaptionRules = PLAIN_CAPTIONS
    validation: ValidationSplit = NO_SPLIT

    def options(self, root: Path) -> list[str]:
        """The command line of train_network.py."""
        at = self.bucketing
        said = ["--resolution", f"{at.resolution[0]},{at.resolution[1]}", "--caption_extension", self.ending]
        said += ["--min_bucket_reso", str(at.min_reso), "--max_bucket_reso", str(at.max_reso)]
        said += ["--bucket_reso_steps", str(at.steps)]
        if self.validation.share:
            said += ["--validation_split", str(self.validation.share), "--validation_seed", str(self.validation.seed)]
        said += ["--enable_wildcard"] * self.captions.wildcard
        for name in ("prefix", "suffix"):
            said += [f"--caption_{name}", text] if (text := getattr(self.captions, name)) else []
        said += ["--enable_bucket"] * at.enabled + ["--bucket_no_upscale"] * at.no_upscale
        if self.config:
            return [*said, "--dataset_config", str(root / "dataset.toml")]
        return [*said, "--train_data_dir", str(root / "train"), "--reg_data_dir", str(root / self.reg)]

    def doctor_options(self, root: Path) -> DoctorOptions:
        """The same for the doctor."""
        config = root / "dataset.toml" if self.config else None
        return DoctorOptions(
            root / self.reg,
            None if config else root / "train",
            config,
            self.bucketing,
            replace(self.captions, ending=self.ending),
            self.validation,
        )

    def made(self, root: Path) -> Path:
        """Build it."""
        for n in range(3):
            paint(root / "train" / "4_spyke girl" / f"{n}.png", (256, 256))
        self.build(root)
        if self.config:
            write(root / "dataset.toml", self.config.replace("ROOT", root.as_posix()))
        return root


def reg(root: Path, folder: str, count: int, size: Size = (256, 256), *, ending: str = "png", digits: int = 3) -> None:
    for n in range(1, count + 1):
        paint(root / "reg" / folder / f"reg_{n:0{digits}}.{ending}", size)


def two_classes(root: Path) -> None:
    reg(root, "1_boy", 8)
    reg(root, "1_girl", 8)


def repeated(root: Path) -> None:
    reg(root, "2_girl", 2)
    reg(root, "1_boy", 1)


def captions(root: Path) -> None:
    reg(root, "1_girl", 6)
    folder = root / "reg" / "1_girl"
    write(folder / "reg_001.caption", "  a girl, smiling \r\nsecond line\r\n")
    write(folder / "reg_002.caption", "\n a girl below a blank line")
    write(folder / "reg_003.caption", b"\xef\xbb\xbfa girl with a mark")
    write(folder / "reg_004.caption", "ein Mädchen, 少女\x85x")
    write(folder / "reg_005.txt", "another ending")


def quirk(root: Path) -> None:
    folder = root / "reg" / "1_an_ime_char"
    for name in ("reg_a_b_c_001", "reg_a_b_c_002"):
        paint(folder / f"{name}.png")
    write(folder / "reg_a_b_c_002.caption", "its own")
    write(folder / "reg.caption", "four parts were cut")


def strays(root: Path) -> None:
    for name in ("1_girl", "3_rejects", "2024_old", "0_x", "-1_x", "thing", "1.5_f", "5", " 2_sp", "1__x", ".reggen"):
        reg(root, name, 1)
    (root / "reg" / "9_empty").mkdir()


def odd_files(root: Path) -> None:
    reg(root, "1_girl", 3)
    folder = root / "reg" / "1_girl"
    for name in (".hidden.png", "mixed.Png", "UPPER.PNG", "UPPER.JPG", "a.jpeg", "b.bmp", "c.webp", "deep/x.png"):
        paint(folder / name, kind="PNG" if name == "mixed.Png" else None)
    paint(folder / "d.gif")
    paint(folder / "lies.png", kind="JPEG")
    write(folder / "reg_004.png.part", "half")
    write(folder / "metadata_cache.json", "{}")
    paint(root / "reg" / "loose.png")


def unpadded(root: Path) -> None:
    for n in range(1, 15):
        paint(root / "reg" / "1_girl" / f"{n}.png")


def sizes(root: Path) -> None:
    wanted = [(256, 256), (256, 384), (384, 256), (257, 385), (64, 64), (1024, 128), (300, 300), (320, 192), (130, 500)]
    for n, size in enumerate(wanted):
        paint(root / "reg" / "1_girl" / f"{n}.png", size)


def many(root: Path) -> None:
    reg(root, "girls", 5)
    reg(root, "boys", 2, (192, 320))
    paint(root / "more" / "a.png", (320, 192))
    write(root / "reg" / "girls" / "reg_002.txt", "first\n\nsecond\n")


def broken(name: str, content: bytes) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        reg(root, "1_girl", 2)
        write(root / "reg" / "1_girl" / name, content)

    return build


def one_of(size: Size) -> Callable[[Path], None]:
    return lambda root: reg(root, "1_girl", 1, size)


def beyond_use(root: Path) -> None:
    reg(root, "1_girl", 13)
    write(root / "reg" / "1_girl" / "reg_013.png", b"")


def torn(root: Path) -> None:
    reg(root, "1_girl", 2)
    tear(root / "reg" / "1_girl" / "reg_003.png")
    tear(root / "reg" / "1_girl" / "reg_004.jpg", 0.7)
    plain(root / "reg" / "1_girl" / "reg_005.png")
    tear(root / "reg" / "1_girl" / "reg_006.webp")
    tear(root / "reg" / "1_girl" / "reg_007.bmp")
    torn_lossless = paint(root / "reg" / "1_girl" / "reg_008.webp", lossless=True).read_bytes()
    write(root / "reg" / "1_girl" / "reg_008.webp", torn_lossless[:80])


def headless(root: Path) -> None:
    reg(root, "1_girl", 2)
    whole = paint(root / "reg" / "1_girl" / "reg_003.png").read_bytes()
    write(root / "reg" / "1_girl" / "reg_003.png", whole[:30])


def cut_end(root: Path) -> None:
    reg(root, "1_girl", 2)
    whole = (root / "reg" / "1_girl" / "reg_002.png").read_bytes()
    write(root / "reg" / "1_girl" / "reg_002.png", whole[:-12])


def turned(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for ending in ("jpg", "webp", "png"):
        paint(root / "reg" / "1_girl" / f"a.{ending}", (256, 128), exif=exif)
    paint(root / "reg" / "1_girl" / "b.webp", (256, 256), exif=exif)
    paint(root / "reg" / "1_girl" / "c.webp", (256, 256), lossless=True)


CONFIG = """
[general]
caption_extension = ".txt"
enable_bucket = true
[[datasets]]
resolution = 256
min_bucket_reso = 128
  [[datasets.subsets]]
  image_dir = "ROOT/train/4_spyke girl"
  class_tokens = "spyke girl"
  num_repeats = 2
  [[datasets.subsets]]
  image_dir = "ROOT/reg/girls"
  class_tokens = "girl"
  is_reg = true
  enable_wildcard = true
  [[datasets.subsets]]
  image_dir = "ROOT/reg/girls"
  num_repeats = 7
  is_reg = true
  [[datasets.subsets]]
  image_dir = "ROOT/reg/boys"
  is_reg = true
[[datasets]]
resolution = [128, 192]
enable_bucket = false
  [[datasets.subsets]]
  image_dir = "ROOT/more"
  num_repeats = 3
  [[datasets.subsets]]
  image_dir = "ROOT/reg/girls"
  num_repeats = 2
  is_reg = true
[[datasets]]
resolution = 192
min_bucket_reso = 100
bucket_no_upscale = true
  [[datasets.subsets]]
  image_dir = "ROOT/reg/boys"
  is_reg = true
"""

SILENT = """
[[datasets]]
  [[datasets.subsets]]
  image_dir = "ROOT/train/4_spyke girl"
  num_repeats = 4
  [[datasets.subsets]]
  image_dir = "ROOT/reg/1_girl"
  class_tokens = "girl"
  is_reg = true
"""
"""It says nothing of buckets: the command line decides, whose default is none."""

PREFIXED = """
[general]
caption_prefix = "general,"
caption_suffix = ", general"
enable_bucket = true
[[datasets]]
resolution = 256
min_bucket_reso = 128
caption_prefix = "dataset,"
secondary_separator = ";;;"
  [[datasets.subsets]]
  image_dir = "ROOT/train/4_spyke girl"
  num_repeats = 4
  caption_prefix = ""
  [[datasets.subsets]]
  image_dir = "ROOT/reg/1_girl"
  class_tokens = "girl"
  is_reg = true
  [[datasets.subsets]]
  image_dir = "ROOT/reg/2_boy"
  class_tokens = "a;;;boy"
  is_reg = true
  caption_prefix = ""
  caption_suffix = ""
  secondary_separator = ""
"""

WILD = """
[general]
enable_wildcard = true
caption_prefix = "{x|y}"
[[datasets]]
resolution = 256
caption_separator = " /"
secondary_separator = ";;;"
  [[datasets.subsets]]
  image_dir = "ROOT/train/4_spyke girl"
  num_repeats = 2
  [[datasets.subsets]]
  image_dir = "ROOT/reg/1_girl"
  is_reg = true
  caption_suffix = "END"
  [[datasets.subsets]]
  image_dir = "ROOT/reg/2_boy"
  class_tokens = "{a|b} boy"
  is_reg = true
  enable_wildcard = false
"""


SPLIT = """
[general]
validation_split = 0.3
validation_seed = 5
[[datasets]]
  [[datasets.subsets]]
  image_dir = "ROOT/train/4_spyke girl"
  num_repeats = 2
  [[datasets.subsets]]
  image_dir = "ROOT/train/2_more"
  num_repeats = 3
  [[datasets.subsets]]
  image_dir = "ROOT/reg/1_girl"
  is_reg = true
[[datasets]]
validation_split = VALUE
  [[datasets.subsets]]
  image_dir = "ROOT/train/2_more"
  [[datasets.subsets]]
  image_dir = "ROOT/reg/1_girl"
  is_reg = true
"""

SEVERAL = """
[general]
enable_bucket = true
[[datasets]]
resolution = 256
  [[datasets.subsets]]
  image_dir = "ROOT/train/4_spyke girl"
  num_repeats = 4
  [[datasets.subsets]]
  image_dir = "ROOT/reg/1_old"
  is_reg = true
  [[datasets.subsets]]
  image_dir = "ROOT/reg/1_girl"
  num_repeats = 2
  is_reg = true
[[datasets]]
resolution = [384, 256]
  [[datasets.subsets]]
  image_dir = "ROOT/train/4_spyke girl"
  [[datasets.subsets]]
  image_dir = "ROOT/reg/1_girl"
  is_reg = true
[[datasets]]
resolution = 512
  [[datasets.subsets]]
  image_dir = "ROOT/reg/1_girl"
  is_reg = true
"""


def splitting(root: Path) -> None:
    for n in range(11):
        paint(root / "train" / "2_more" / f"{n}.png", (256, 320))
    reg(root, "1_girl", 40)


def split_of_nothing(root: Path) -> None:
    (root / "train" / "1_empty").mkdir()
    reg(root, "1_girl", 3)


def one_after_another(root: Path) -> None:
    reg(root, "1_old", 5)
    reg(root, "1_girl", 9, (300, 200))


def wild(root: Path) -> None:
    write(root / "train" / "4_spyke girl" / "0.caption", "one {a|b}\n two;;;{{b}} \n\n{c")
    write(root / "train" / "4_spyke girl" / "1.caption", "\u2985{a|b|c} {} {d|e\u2986 }")
    reg(root, "1_girl", 3)
    reg(root, "2_boy", 3)
    write(root / "reg" / "1_girl" / "reg_001.caption", "one\n{two|three|four} ;;;{five|six}\n{{x}} }}")
    write(root / "reg" / "1_girl" / "reg_002.caption", "{a{b|c}|d}")
    write(root / "reg" / "2_boy" / "reg_002.caption", "{a|b}\nc")


LAYOUTS = (
    *(
        Layout(f"a split of {share}", splitting, config=SPLIT.replace("VALUE", share))
        for share in ("0.0", "0.5", "0.09", "1.0", "1.5", "-0.5")
    ),
    Layout("a split of the command line", splitting, validation=ValidationSplit(0.25, 3)),
    Layout("a split that leaves nothing aside", splitting, validation=ValidationSplit(0.01, 3)),
    Layout(
        "a split of an empty folder",
        split_of_nothing,
        validation=ValidationSplit(0.25, 3),
    ),
    Layout("several resolutions, other reg folders, a reg subset alone", one_after_another, config=SEVERAL),
    Layout("prefixes at every level", wild, config=PREFIXED),
    Layout("prefixes of the command line", wild, captions=CaptionRules(prefix="spyke,", suffix="in a field")),
    Layout("wildcards", wild, config=WILD),
    Layout("wildcards of the command line", wild, captions=CaptionRules(prefix="pre", suffix="{a|b}", wildcard=True)),
    Layout("two classes, too many images", two_classes),
    Layout("one class, too many images", lambda root: reg(root, "1_girl", 15)),
    Layout("exactly enough", lambda root: reg(root, "1_girl", 12)),
    Layout("too few images", lambda root: reg(root, "1_girl", 5)),
    Layout("repeats of reg images overshoot", lambda root: reg(root, "5_girl", 4)),
    Layout("repeats of reg images, too few", repeated),
    Layout("the class folder itself", lambda root: reg(root, "1_girl", 5), reg="reg/1_girl"),
    Layout("a level too high", lambda root: reg(root, "1_girl", 5), reg="."),
    Layout("folders without repeats", lambda root: reg(root, "girls", 5)),
    Layout("stray folders", strays),
    Layout("captions of every kind", captions),
    Layout("captions with .txt alone", captions, ending="txt"),
    Layout("the caption of five parts", quirk),
    Layout("files of every kind", odd_files),
    Layout("numbers without zeros", unpadded),
    Layout("sizes of every kind", sizes),
    Layout("sizes without upscaling", sizes, Bucketing((256, 256), no_upscale=True)),
    Layout("sizes without buckets", sizes, Bucketing((256, 320), enabled=False)),
    Layout("limits that are no multiples", sizes, Bucketing((256, 256), min_reso=100, max_reso=500, steps=32)),
    Layout("a config of several datasets", many, config=CONFIG, reg="reg"),
    Layout("a config without a word on buckets", sizes, Bucketing((256, 320), enabled=False), config=SILENT),
    Layout("buckets by the command line for a config", sizes, config=SILENT),
    Layout("an empty caption", broken("reg_001.caption", b"")),
    Layout("a caption that is not UTF-8", broken("reg_001.caption", b"caf\xe9")),
    Layout("a caption of a byte order mark alone", broken("reg_001.caption", b"\xef\xbb\xbf")),
    Layout("an empty image", broken("reg_003.png", b"")),
    Layout("an empty image that is not needed", beyond_use),
    Layout("a web page as an image", broken("reg_003.png", b"<!DOCTYPE html><html>not found</html>")),
    Layout("a jpeg of two bytes", broken("reg_003.jpg", b"\xff\xd8")),
    Layout("torn images", torn),
    Layout("an image torn in its header", headless),
    Layout("an image without its last bytes", cut_end),
    Layout("turned images and extended WebPs", turned, Bucketing((256, 256), no_upscale=True)),
    Layout("an image too low for a bucket", one_of((300, 40)), Bucketing((256, 256), no_upscale=True)),
    Layout("an image too narrow for a bucket", one_of((40, 300)), Bucketing((256, 256), no_upscale=True)),
    Layout("a smallest bucket above the resolution", lambda root: reg(root, "1_girl", 2), Bucketing((192, 192))),
    Layout(
        "a smallest bucket below the steps", lambda root: reg(root, "1_girl", 2), Bucketing((256, 256), min_reso=32)
    ),
    Layout("no reg images at all", lambda root: (root / "reg").mkdir()),
)
