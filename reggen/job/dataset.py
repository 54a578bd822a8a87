"""The dataset of a job: its folders, its number of images, and the form they are kept in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from reggen.job.section import ExpandedPath, FileNamePart, Section

MAX_COUNT = 1 << 40


def word_or_number(word: str) -> Discriminator:
    """The discriminator for a key that holds numbers or one ``word``: any other value is reported as a wrong number."""
    return Discriminator(lambda value: "word" if value == word else "int")


class Dataset(Section):
    """Where the images go and how many."""

    root: ExpandedPath = Field(description="The folder given to the trainer as --reg_data_dir. Made when missing.")
    class_tokens: FileNamePart = Field(
        "", alias="class", description="The class tokens, as they stand in the folder name: anime_character."
    )
    repeats: int = Field(1, ge=1, le=10_000, description="kohya's repeats: the number before the class tokens.")
    prefix: FileNamePart = Field("reg", description="Images are named PREFIX_001.png, PREFIX_002.png, ...")
    count: Annotated[
        Annotated[int, Field(ge=1, lt=MAX_COUNT), Tag("int")] | Annotated[Literal["match"], Tag("word")],
        word_or_number("match"),
    ] = Field(description="Number of images when complete; 'match': as many as the training set uses.")
    format: Literal["png", "webp", "jpg"] = Field(
        "png", description="png keeps the server's bytes; webp is lossless without a quality; jpg has quality 95."
    )
    quality: int | None = Field(None, ge=1, le=100, description="For webp and jpg: lossy, in this quality.")
    metadata: Literal["keep", "strip"] | None = Field(
        None,
        description="ComfyUI's graph in the image, in EXIF where the format has no text. "
        "Left out: kept in png and jpg, not in webp, whose size kohya misreads then.",
    )
    parameters: bool = Field(False, description="Also write the text that AUTOMATIC1111 and Civitai read.")
    listings: tuple[Literal["jsonl", "csv"], ...] = Field(
        (),
        description="jsonl: metadata.jsonl beside the images, for Hugging Face; csv: a table beside their folder.",
    )

    @field_validator("root", mode="before")
    @classmethod
    def _named(cls, root: Any) -> Any:
        if isinstance(root, str) and not root.strip():
            raise ValueError("it is empty; name the folder")
        return root

    @model_validator(mode="after")
    def _has_quality(self) -> Self:
        if self.quality is not None and self.format == "png":
            raise ValueError("quality is for format = 'webp' or 'jpg'; png has none")
        return self

    @property
    def keeps_metadata(self) -> bool:
        """True where ComfyUI's graph and reggen's note stay in the images."""
        return self.metadata == "keep" or (self.metadata is None and self.format != "webp")

    @property
    def folder(self) -> Path:
        """The folder of the images: ``root/REPEATS_CLASS``, kohya's layout."""
        return self.root / f"{self.repeats}_{self.class_tokens}"

    @property
    def state(self) -> Path:
        """The folder of ledger, lock, log and report: beside the images, under a name that no trainer reads."""
        return state_folder(self.folder)

    def of_class(self, class_tokens: str, count: int) -> ClassDataset:
        """The dataset of one class, whose count is known."""
        return ClassDataset.model_validate({**self.model_dump(by_alias=True), "class": class_tokens, "count": count})


class ClassDataset(Dataset):
    """The dataset of one class: its tokens and its count are known."""

    class_tokens: FileNamePart = Field(alias="class")
    count: int


def state_folder(images: Path) -> Path:
    """The folder of reggen's own files for an image folder: ledger, lock, rejected images."""
    return images.parent / ".reggen" / images.name
