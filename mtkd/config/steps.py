"""The steps of preprocessing: each is a mapping with one key, as ``{bandpass: [1, 45]}``, or that key alone."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from mtkd.config.section import Modality, OpenBand, Section

Hertz = Annotated[float, Field(gt=0)]


class OneKey(Section):
    """A step: its one key says what is done, its value how."""

    @property
    def name(self) -> str:
        """The key."""
        return next(iter(type(self).model_fields))

    @property
    def value(self) -> Any:
        """What stands there."""
        return getattr(self, self.name)


class Notch(OneKey):
    """Stop narrow bands, such as the mains and its harmonics: ``{notch: [50, 100]}``, hertz."""

    notch: list[Hertz] = Field(min_length=1)

    @field_validator("notch", mode="before")
    @classmethod
    def _is_list(cls, value: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError("is a list of frequencies, such as [50]")
        return value


class Bandpass(OneKey):
    """Pass a band, of which either edge may be null: ``{bandpass: [1, 45]}``, hertz."""

    bandpass: OpenBand

    @field_validator("bandpass", mode="before")
    @classmethod
    def _is_pair(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError("is a pair such as [1, 45], of which null leaves an edge open")
        return value

    @field_validator("bandpass")
    @classmethod
    def _some_edge(cls, band: OpenBand) -> OpenBand:
        if band == (None, None):
            raise ValueError("both edges are null, so nothing is filtered")
        return band


class Reference(OneKey):
    """Take off each electrode the average of all that are on, or of those named: ``{reference: average}``."""

    reference: Literal["average"] | Annotated[list[str], Field(min_length=1)]

    @field_validator("reference", mode="before")
    @classmethod
    def _is_known(cls, value: Any) -> Any:
        if value != "average" and not isinstance(value, list):
            raise ValueError("is 'average' or a list of electrodes, such as [M1, M2]")
        return value


class Bads(OneKey):
    """Find electrodes that differ from their neighbours, by MNE's local outlier factor, and interpolate them."""

    class Rule(Section):
        """From which factor on an electrode is bad, and whether it is interpolated or masked."""

        threshold: float = Field(1.5, gt=1)
        interpolate: bool = True

    bads: Rule = Rule()


class Ica(OneKey):
    """Take off the independent components that go with the EOG, fitted on all trials of a recording.

    DEAP's preprocessed files are a recording a trial.
    """

    class Rule(Section):
        """Share of the variance that the components hold, and the correlation from which on one goes with the EOG."""

        n_components: float = Field(0.99, gt=0, lt=1)
        threshold: float = Field(0.5, gt=0, lt=1)

    ica: Rule = Rule()


class Resample(OneKey):
    """Where in the list the modality's ``sfreq`` is reached; without this step, at its end, or before ``reject``."""

    resample: Annotated[dict[str, Any], Field(max_length=0)] = {}


class Baseline(OneKey):
    """Take off each channel its mean over so many seconds before the trial: ``{baseline: 3.0}``."""

    baseline: float = Field(gt=0)


class Reject(OneKey):
    """Mask the seconds in which a channel spans more than this, in the unit of its modality: ``{reject: 2.0e-4}``.

    What a filter makes of them afterwards is not masked, so filters come before it, that of ``resample`` among them.
    """

    reject: float = Field(gt=0)


class Split(OneKey):
    """Split skin conductance into its tonic and phasic part, at a frequency in hertz."""

    split: float = Field(0.05, gt=0)


class Rate(OneKey):
    """One more channel: the rate of heartbeats or breaths in hertz, from the peaks that NeuroKit2 finds."""

    rate: Annotated[dict[str, Any], Field(max_length=0)] = {}


STEPS: dict[str, type[OneKey]] = {
    "notch": Notch,
    "bandpass": Bandpass,
    "reference": Reference,
    "bads": Bads,
    "ica": Ica,
    "resample": Resample,
    "baseline": Baseline,
    "reject": Reject,
    "split": Split,
    "rate": Rate,
}
ONLY: dict[str, tuple[Modality, ...]] = {
    "reference": ("eeg",),
    "bads": ("eeg",),
    "ica": ("eeg",),
    "split": ("eda",),
    "rate": ("ecg", "ppg", "resp"),
}
ONCE = ("resample", "split", "rate")
"""A rate is reached once, and of channels that a step made it would make others."""
_NOT_AFTER = {
    "rate": (("notch", "bandpass", "baseline", "reject"), "which it would take for the signal"),
    "reject": (
        ("notch", "bandpass", "ica", "resample", "split"),
        "whose seconds are masked, but would ring on in those after them, or go into other channels",
    ),
}
LOOKS_AHEAD = ("bads", "ica", "rate")


def _key(step: Any) -> Any:
    """By what a step is told: a study's text, or a step that is there already."""
    if isinstance(step, dict):
        return next(iter(step)) if len(step) == 1 else None
    return getattr(step, "name", None)


Step = Annotated[
    Annotated[Notch, Tag("notch")]
    | Annotated[Bandpass, Tag("bandpass")]
    | Annotated[Reference, Tag("reference")]
    | Annotated[Bads, Tag("bads")]
    | Annotated[Ica, Tag("ica")]
    | Annotated[Resample, Tag("resample")]
    | Annotated[Baseline, Tag("baseline")]
    | Annotated[Reject, Tag("reject")]
    | Annotated[Split, Tag("split")]
    | Annotated[Rate, Tag("rate")],
    Discriminator(_key, custom_error_type="step", custom_error_message=f"a step is one alone of {', '.join(STEPS)}"),
]


class ModalitySignals(Section):
    """One modality's rate and the steps to it, in their order. ``causal`` filters never look ahead."""

    sfreq: float = Field(gt=0, le=1e6)
    phase: Literal["causal", "zero"] = "causal"
    steps: list[Step] = []

    @field_validator("steps", mode="before")
    @classmethod
    def _keys_alone(cls, steps: Any) -> Any:
        bare = {"split": 0.05}
        return (
            [{step: bare.get(step, {})} if isinstance(step, str) else step for step in steps]
            if isinstance(steps, list)
            else steps
        )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        names = [step.name for step in self.steps]
        for name in ONCE:
            if names.count(name) > 1:
                raise ValueError(f"steps {name} twice")
        for first, (forbidden, why) in _NOT_AFTER.items():
            after = names[names.index(first) :] if first in names else []
            for name in forbidden:
                if name in after:
                    raise ValueError(f"steps {name} after {first}, {why}")
        for name in LOOKS_AHEAD:
            if name in names and self.phase == "causal":
                raise ValueError(f"the step {name} looks ahead, which phase = causal does not allow; phase = zero does")
        return self
