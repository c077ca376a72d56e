"""The index of a shard set: which trials it holds and where in the tars their members lie.

Members are indexed by byte range: shards stay plain WebDataset tars, and yet any trial or modality is read without its
neighbours.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mtkd.errors import MtkdError
from mtkd.files import publish_file
from mtkd.shards.schema import SampleInfo

NAME = "index.json"


class Member(BaseModel):
    """Bytes ``offset`` to ``offset + size`` of the tar, with their CRC-32."""

    model_config = ConfigDict(frozen=True)
    offset: int = Field(ge=0)
    size: int = Field(ge=0)
    crc32: int


class Sample(SampleInfo):
    """A trial and the place of its members."""

    members: dict[str, Member]


class Index(BaseModel):
    """All of one shard set: the samples of every tar."""

    model_config = ConfigDict(frozen=True)
    format: Literal["mtkd-index-1"] = "mtkd-index-1"
    shards: dict[str, Annotated[list[Sample], Field(min_length=1)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_once(self) -> "Index":
        if len({sample.key for sample in self.samples}) < len(self.samples):
            raise ValueError("names a trial twice")
        return self

    @property
    def samples(self) -> list[Sample]:
        """All trials in the order of the shards."""
        return [sample for samples in self.shards.values() for sample in samples]

    @property
    def subjects(self) -> list[str]:
        """Sorted, each once."""
        return sorted({sample.subject for sample in self.samples})


def write_index(folder: Path, shards: dict[str, list[Sample]]) -> None:
    """Write the index, whole or not at all."""
    with publish_file(folder / NAME) as aside:
        aside.write_text(Index(shards=shards).model_dump_json(), encoding="utf-8")


def read_index(folder: Path) -> Index:
    """The index of a folder.

    Raises:
        MtkdError: there is none, or it is damaged.
    """
    path = folder / NAME
    try:
        return Index.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise MtkdError(f"{path}: no such file") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise MtkdError(f"{path}: damaged index, {key}: {first['msg']}") from None
