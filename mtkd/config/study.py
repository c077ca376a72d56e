"""A study as a whole, and its sections on what comes after the training."""

from math import inf
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mtkd.config.data import Data
from mtkd.config.models import Cache, Distill, Spatial, TeacherName, Temporal
from mtkd.config.section import Section
from mtkd.config.signals import Signals, Splits, Windows


class Shards(Section):
    """How recordings become shards: a job each, on the cores of this machine or over a Ray cluster.

    With ``root`` they are read from there instead, by fsspec: a folder of a set, ``https://`` or ``s3://``.
    """

    root: str | None = None

    engine: Literal["joblib", "ray"] = "joblib"
    n_jobs: int = Field(-1, ge=-1, description="at most so many side by side; -1: as many as there are cores")
    ray_address: str | None = None

    @field_validator("n_jobs")
    @classmethod
    def _some(cls, n_jobs: int) -> int:
        if n_jobs == 0:
            raise ValueError("no job at all")
        return n_jobs


class Units(Section):
    """Trainings and caches that do not depend on each other: on this machine, or in parts over a Ray cluster.

    As many parts as the cluster has room for, each a ``mtkd STAGE --part I/N`` of its own with so many processors and
    GPUs, on nodes that share the workspace. On Slurm an array of tasks does the same, see launch/parts.sbatch.
    """

    engine: Literal["joblib", "ray"] = "joblib"
    ray_address: str | None = None
    cpus_per_part: float = Field(1, gt=0)
    gpus_per_part: float = Field(0, ge=0)


class Sweep(Section):
    """Ray Tune with ASHA, for every student whose ``settings`` are ``sweep``, on each fold's validation subjects.

    Which trials ASHA stops depends on how many run side by side: two sweeps may end with different settings. ``search``
    maps dotted keys of ``distill`` to ``{low, high}`` (``log: true`` draws from the logarithm) or to ``{choice}``.
    """

    class Range(Section):
        """Where one key is searched."""

        low: float | None = None
        high: float | None = None
        log: bool = False
        choice: list[float | int | str] | None = None

        @model_validator(mode="after")
        def _range_or_choice(self) -> Self:
            if (self.choice is None) == (self.low is None or self.high is None):
                raise ValueError("either low and high, or choice")
            if self.low is not None and self.high is not None and not (0 if self.log else -inf) < self.low < self.high:
                raise ValueError("low must be below high, and above 0 where log is set")
            return self

    search: dict[str, Range] = Field(
        {"optim.lr": Range(low=5e-4, high=5e-3, log=True), "kd": Range(low=0.1, high=3.0, log=True)},
        description="dotted key of distill: range",
    )
    n_trials: int = Field(8, ge=1)
    grace_epochs: int = Field(2, ge=1)
    reduction_factor: int = Field(2, ge=2)
    cpus_per_trial: float = Field(1, gt=0)
    gpus_per_trial: float = Field(0, ge=0)
    ray_address: str | None = None


class Evaluate(Section):
    """The students of the table, each a name and its changes to ``distill``; and teachers beside those that teach.

    Those are trained on the same folds and told in the table, but teach nobody: each a name and its changes to
    ``temporal`` or ``spatial``, such as ``{random weights: {temporal: {pretrained: false}}}``.

    Each is compared with ``baseline``; one whose settings were swept with a student from labels alone that was swept
    too, where the table has one, or the search would be counted as distillation.
    """

    students: dict[str, dict[str, Any]] = {
        "labels alone": {"teachers": {}, "ce": 1.0},
        "distilled": {},
        "labels alone, swept": {"teachers": {}, "ce": 1.0, "settings": "sweep"},
        "distilled, swept": {"settings": "sweep"},
    }
    teachers: dict[str, dict[TeacherName, dict[str, Any]]] = {}
    baseline: str = "labels alone"
    n_bins: int = Field(10, ge=2, le=1000, description="bins of the calibration error")


class Predict(Section):
    """Any file MNE can read, without EEG. ``student`` is a name of ``evaluate.students``.

    ``channels`` names the recording's channels as the study does (``EDA: GSR``). ``output`` is a folder for copies.
    """

    recording: str | None = None
    channels: dict[str, str] = {}
    student: str = "distilled"
    output: str | None = None


class Inspect(Section):
    """``mtkd inspect`` draws this trial; by default the first."""

    trial: str | None = None


class Study(Section):
    """One study: a data set with its protocol.

    With ``n_seeds`` everything is trained as often, with ``seed`` and the numbers after it; settings are swept, and
    recordings predicted, with the first. With ``teacher_seed`` students of all seeds hear the same teachers.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100)
    workspace: str = Field(description="folder for all that the stages write")
    seed: int = Field(0, ge=0, lt=2**32)
    n_seeds: int = Field(1, ge=1, le=1000)
    teacher_seed: int | None = Field(
        None, ge=0, lt=2**32, description="of teachers that are trained once for all seeds"
    )
    labels: dict[str, float] = Field(min_length=1, max_length=4, description="rating: threshold; above it is high")
    classes: list[str] | None = Field(None, description="names in the order of the class index")
    data: Data
    signals: Signals
    shards: Shards = Shards()
    windows: Windows
    splits: Splits = Splits()
    units: Units = Units()
    temporal: Temporal
    spatial: Spatial = Spatial()
    cache: Cache = Cache()
    distill: Distill
    sweep: Sweep = Sweep()
    evaluate: Evaluate = Evaluate()
    predict: Predict = Predict()
    inspect: Inspect = Inspect()

    @field_validator("labels")
    @classmethod
    def _names_of_ratings(cls, labels: dict[str, float]) -> dict[str, float]:
        for name in labels:
            if not name.strip() or not name.isprintable() or len(name) > 100:
                raise ValueError(f"{name[:40]!r} is no name of a rating")
            if name == "joint":
                raise ValueError("'joint' is what all ratings together are called in the tables")
        return labels

    @model_validator(mode="after")
    def _seeds_fit(self) -> Self:
        if self.seed + self.n_seeds > 2**32:
            raise ValueError(f"seed = {self.seed} and the {self.n_seeds - 1} after it exceed 2**32 - 1")
        return self

    @property
    def n_classes(self) -> int:
        """Every combination of low and high over the ratings: 2 for one rating, 4 quadrants for two."""
        return 2 ** len(self.labels)

    @property
    def class_names(self) -> list[str]:
        """Names in the order of the class index, whose bit i is the i-th rating (0 low, 1 high)."""
        return self.classes or [
            ", ".join(f"{'high' if index >> bit & 1 else 'low'} {rating}" for bit, rating in enumerate(self.labels))
            for index in range(self.n_classes)
        ]
