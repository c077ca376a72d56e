"""The sections of a study file on preprocessing, features, windows and splits."""

from typing import Self

from pydantic import Field, model_validator

from mtkd.config.section import Band, Modality, Section
from mtkd.config.steps import ONLY, ModalitySignals


class Entropy(Section):
    """Band-wise differential entropy of the EEG, written beside it: one value a channel, band and ``window_s``."""

    bands: list[Band] = Field([(1, 4), (4, 8), (8, 13), (13, 30), (30, 45)], min_length=1)
    window_s: float = Field(1.0, gt=0)


class Signals(Section):
    """Preprocessing. Only modalities named here are kept.

    ``lead_s``: how much before each trial its filters hear to settle; a trial with less before it is refused.
    ``transductive`` allows statistics of a recording as a whole, also of test subjects; all results will say so.
    """

    modalities: dict[Modality, ModalitySignals] = Field(min_length=1)
    lead_s: float = Field(0.0, ge=0, description="second")
    transductive: bool = False
    entropy: Entropy | None = None

    @property
    def heard(self) -> set[Modality]:
        """What of a recording is read: the modalities, and the EOG that an ICA goes by."""
        by_ica = any(step.name == "ica" for settings in self.modalities.values() for step in settings.steps)
        return {*self.modalities, *(("eog",) if by_ica else ())}

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        for modality, settings in self.modalities.items():
            for step in settings.steps:
                name = step.name
                if modality not in ONLY.get(name, (modality,)):
                    raise ValueError(f"modalities.{modality}.steps: {name} is for {' and '.join(ONLY[name])}")
                if name == "baseline" and step.value > self.lead_s:
                    raise ValueError(
                        f"modalities.{modality}.steps: a baseline of {step.value:g} s before the trial needs lead_s"
                    )
                if name == "ica" and not self.transductive:
                    raise ValueError("modalities.eeg.steps: ica is fitted on whole recordings; transductive allows it")
        if self.entropy is not None and "eeg" not in self.modalities:
            raise ValueError("entropy is that of the EEG, which modalities does not name")
        return self


class Windows(Section):
    """Windows cut from a trial when it is read, in seconds."""

    window_s: float = Field(gt=0)
    hop_s: float = Field(gt=0)


class Splits(Section):
    """Outer folds and, inside each, validation subjects. Always by subject.

    With ``crossfit`` above 1 a fold's training subjects are dealt out to so many parts, and each part has teachers of
    its own that were trained without it, beside those trained on all: a student hears them of that part's trials.

    With ``n_labelled`` the labels of all but so many of a fold's training subjects are hidden, as if nobody had asked
    for them: teachers do without these subjects, and students hear of them what the teachers say.

    With ``disjoint_stimuli`` the stimuli are dealt out to the folds, too: test subjects are asked about those of their
    fold, which nobody in training or validation is heard of.
    """

    n_folds: int = Field(4, ge=2, le=10_000)
    crossfit: int = Field(1, ge=1, le=10_000)
    val_share: float = Field(0.25, gt=0, lt=1)
    disjoint_stimuli: bool = False
    n_labelled: int | None = Field(None, ge=1, description="training subjects of a fold; None: all")
    seed: int = Field(0, ge=0)
