"""The section of a study file on its recordings: where they are, and how each reader takes them."""

import unicodedata
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, PrivateAttr, Tag, field_validator, model_validator

from mtkd.config.section import Kind, Modality, Section

Pair = Annotated[list[str], Field(min_length=2, max_length=2)]
Range = Annotated[list[float], Field(min_length=2, max_length=2)]


class Simulation(Section):
    """Parameters of the simulated study, see ``mtkd.signals.simulated``. All in units of the latent drive's sd."""

    n_subjects: int = Field(12, ge=2, le=99)
    n_trials: int = Field(40, ge=2, le=99)
    seed: int = 0
    subject_sd: float = Field(0.5, ge=0)
    trial_sd: float = Field(1.0, ge=0)
    segment_sd: float = Field(1.0, ge=0)
    label_noise: float = Field(0.3, ge=0, lt=1)


class Source(Section):
    """What all readers ask: where the recordings are, and of whom they are taken.

    ``absent`` tells what becomes of a recording that lacks a modality. ``rename`` gives a channel another name, where
    files call one sensor by several: it goes first, by the very name that the file has. ``bipolar`` makes a channel as
    the difference of two, which are then no channels of their own, and ``units`` corrects the unit that a file gives a
    channel, both by its name before or after. ``channels`` gives each channel that there is then the kind of the first
    pattern (shell style) it matches, before what the reader itself knows of them. ``folder`` goes before what could be
    simulated or fetched.
    """

    folder: str | None = None
    subjects: list[str] | None = None
    exclude: list[str] = []
    absent: Literal["refuse", "mask"] = "refuse"
    channels: dict[str, Kind] = {}
    bipolar: dict[str, Pair] = {}
    units: dict[str, str] = {}
    rename: dict[str, str] = {}
    _only: frozenset[Modality] | None = PrivateAttr(None)

    def only(self, modalities: Iterable[Modality]) -> Self:
        """A copy for readers, which then pass over all other modalities, be they as they may."""
        copied = self.model_copy()
        copied._only = frozenset(modalities)
        return copied

    def asks_for(self, modality: Modality) -> bool:
        """Whether channels of a modality are to be read."""
        return self._only is None or modality in self._only

    def takes(self, subject: str) -> bool:
        """Whether a subject is one of the study's."""
        subject = unicodedata.normalize("NFC", subject)
        return (self.subjects is None or subject in self.subjects) and subject not in self.exclude

    @field_validator("subjects", "exclude")
    @classmethod
    def _composed(cls, subjects: list[str] | None) -> list[str] | None:
        """In the spelling that readers give subjects: an é may be one character or two."""
        return subjects and [unicodedata.normalize("NFC", subject) for subject in subjects]

    @property
    def simulated(self) -> Simulation | None:
        """The simulation the recordings come from, if they do."""
        return None

    @property
    def fetched(self) -> str | None:
        """The public data set that is to be fetched, if one is."""
        return None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.folder is None and self.simulated is None and self.fetched is None:
            others = [key for key in ("download", "simulate") if key in type(self).model_fields]
            raise ValueError(f"one of {', '.join(['folder', *others])} is needed" if others else "folder is needed")
        for name, (first, second) in self.bipolar.items():
            if first == second:
                raise ValueError(f"bipolar.{name} is the difference of {first!r} and itself")
        for key in ("bipolar", "rename"):
            given: dict[str, Any] = getattr(self, key)
            ours = given if key == "bipolar" else given.values()
            for name in ours:
                if not name.strip() or not name.isprintable():
                    raise ValueError(f"{key} has {name!r}, which is no name")
        if self.subjects is not None and (both := sorted(set(self.subjects) & set(self.exclude))):
            raise ValueError(f"subjects and exclude both name {both[0]}")
        return self


class Deap(Source):
    """DEAP, preprocessed (``.dat``, ``.mat``) or original (``.bdf``), see ``mtkd.signals.readers.deap``.

    ``format`` names the files to take where a subject has several; by default the first of those three. Of the
    preprocessed ones the first ``baseline_s`` come before the stimulus.
    """

    reader: Literal["deap"]
    simulate: Simulation | None = None
    format: Literal["dat", "mat", "bdf"] | None = None
    baseline_s: float = Field(3.0, ge=0)

    @property
    def simulated(self) -> Simulation | None:
        """See ``Source``."""
        return self.simulate if self.folder is None else None


class Mahnob(Source):
    """MAHNOB-HCI, the folder that holds ``Sessions/`` or that folder itself, see ``mtkd.signals.readers.mahnob``."""

    reader: Literal["mahnob"]


class Condition(Section):
    """What a file stands for where one file is one trial: ratings, and the part to keep (negative: from its end)."""

    ratings: dict[str, float] = {}
    start_s: float = 0.0
    stop_s: float | None = None


class Edf(Source):
    """EDF or BDF files of one trial each, whose names hold subject and condition."""

    reader: Literal["edf"]
    download: Literal["eegmat"] | None = None
    pattern: str = "{subject}_{condition}.edf"
    conditions: dict[str, Condition] = Field(min_length=1)

    @property
    def fetched(self) -> str | None:
        """See ``Source``."""
        return self.download if self.folder is None else None

    @model_validator(mode="after")
    def _each_part_once(self) -> Self:
        if any(self.pattern.count(part) != 1 for part in ("{subject}", "{condition}")):
            raise ValueError(f"pattern is {self.pattern!r}, but {{subject}} and {{condition}} must each come once")
        if "}{" in self.pattern:  # where one ends and the other begins could not be told
            raise ValueError(f"pattern is {self.pattern!r}, but something must stand between its two parts")
        return self


class Column(Section):
    """A column of a table as a rating. ``levels`` gives its words a number; without them it holds numbers.

    ``absent`` are further cells that stand for no rating (``["99"]``), and ``range`` the lowest and highest there are.
    """

    column: str
    levels: dict[str, float] = {}
    absent: list[str] = []
    range: Range | None = None

    @model_validator(mode="after")
    def _is_range(self) -> Self:
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range is {self.range}, but its first number must be below its second")
        return self


class Columns(Source):
    """What the readers of tables ask: which columns are ratings, under which names; and which is the stimulus."""

    ratings: dict[str, str | Column] = {}
    stimulus: str | None = None

    @field_validator("ratings", mode="before")
    @classmethod
    def _name_columns(cls, ratings: Any) -> Any:
        for name, column in ratings.items() if isinstance(ratings, dict) else ():
            if isinstance(column, dict) and "column" not in column:
                raise ValueError(f"{name} names no column")
        return ratings

    @property
    def rated(self) -> dict[str, Column]:
        """The columns of the ratings."""
        return {
            name: Column(column=column) if isinstance(column, str) else column for name, column in self.ratings.items()
        }


class Bids(Columns):
    """A BIDS root; the rows of its ``events.tsv`` that are ``trial_types`` are trials.

    Without ``trial_types`` every event that lasts is one. ``task`` is needed where there are several.
    """

    reader: Literal["bids"]
    task: str | None = None
    sessions: list[str] | None = None
    trial_types: list[str] | None = None
    type_column: str = "trial_type"


class Table(Columns):
    """Any files MNE can read, and a CSV file of their trials: ``file,subject,start_s,stop_s`` and more columns.

    Its paths are relative to ``folder``, as is ``table`` itself. A row without ``start_s`` begins, one without
    ``stop_s`` ends with its file. Without ``ratings`` every further column of numbers is one.
    """

    reader: Literal["table"]
    table: str = "trials.csv"


def _reader(value: Any) -> Any:
    """By what the sections are told apart: a study's text, or a section that is there already."""
    return value.get("reader") if isinstance(value, dict) else getattr(value, "reader", None)


Data = Annotated[
    Annotated[Deap, Tag("deap")]
    | Annotated[Mahnob, Tag("mahnob")]
    | Annotated[Edf, Tag("edf")]
    | Annotated[Bids, Tag("bids")]
    | Annotated[Table, Tag("table")],
    Discriminator(
        _reader,
        custom_error_type="reader",
        custom_error_message="reader must be one of deap, mahnob, edf, bids and table",
    ),
]
