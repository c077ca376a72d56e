"""What a study may say of its steps, and what it is told where it may not."""

import pytest
from pydantic import ValidationError

from mtkd.config import Signals

ALL = "notch, bandpass, reference, bads, ica, resample, baseline, reject, split, rate"


def read(modality: str = "emg", steps=(), lead_s=0.0, transductive=False, phase="causal") -> Signals:
    settings = {"sfreq": 128, "phase": phase, "steps": list(steps)}
    return Signals(modalities={modality: settings}, lead_s=lead_s, transductive=transductive)


def names(signals: Signals) -> list[str]:
    return [step.name for settings in signals.modalities.values() for step in settings.steps]


def refusal(**settings) -> tuple[str, str]:
    """Where something is refused and why."""
    with pytest.raises(ValidationError) as caught:
        read(**settings)
    (error,) = caught.value.errors()
    return ".".join(str(part) for part in error["loc"]), error["msg"].removeprefix("Value error, ")


@pytest.mark.parametrize(
    ("modality", "step"), [("emg", "resample"), ("ppg", "rate"), ("eda", "split"), ("eeg", "bads"), ("eeg", "ica")]
)
def test_a_step_by_its_name_alone_is_the_one_with_its_defaults(modality, step):
    settings = {"phase": "zero", "transductive": True}
    full = {"split": 0.05}.get(step, {})
    alone = read(modality, [step], **settings)
    assert alone == read(modality, [{step: full}], **settings)
    assert names(alone) == [step]
    assert Signals.model_validate(alone.model_dump(mode="json")) == alone


def test_steps_keep_their_order():
    order = [{"notch": [50]}, {"bandpass": [1, None]}, "resample", {"reference": "average"}, {"reject": 1e-4}]
    assert names(read("eeg", order)) == ["notch", "bandpass", "resample", "reference", "reject"]
    assert names(read("eeg", order[3::-1])) == ["reference", "resample", "bandpass", "notch"]
    twice = [{"bandpass": [1, None]}, {"bandpass": [None, 40]}]
    assert [step.value for step in read("eeg", twice).modalities["eeg"].steps] == [(1, None), (None, 40)]


@pytest.mark.parametrize("step", ["smooth", {"smooth": 1}, {}, 5, True, ["notch"], "", {3: 1}])
def test_what_is_no_step_is_refused_with_all_that_are(step):
    assert refusal(steps=[{"reject": 1.0}, step]) == ("modalities.emg.steps.1", f"a step is one alone of {ALL}")


def test_two_keys_make_no_step():
    where, why = refusal(steps=[{"notch": [50], "bandpass": [1, 4]}])
    assert (where, why) == ("modalities.emg.steps.0", f"a step is one alone of {ALL}")


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ("notch", "is a list of frequencies, such as [50]"),
        ("bandpass", "is a pair such as [1, 45]"),
        ({"bandpass": 45}, "is a pair such as [1, 45]"),
        ({"bandpass": [1, 2, 3]}, "is a pair such as [1, 45]"),
        ({"reference": "mastoids"}, "is 'average' or a list of electrodes"),
        ("baseline", "valid number"),
        ({"notch": 50}, "is a list of frequencies"),
        ({"notch": []}, "at least 1 item"),
        ({"notch": [0]}, "greater than 0"),
        ({"bandpass": [None, None]}, "both edges are null, so nothing is filtered"),
        ({"reject": -1}, "greater than 0"),
        ({"reject": float("inf")}, "finite"),
        ({"resample": {"to": 64}}, "at most 0 items"),
    ],
)
def test_what_a_step_cannot_be_is_refused_by_its_place(step, why):
    where, found = refusal(steps=[step])
    name = step if isinstance(step, str) else next(iter(step))
    assert where.startswith(f"modalities.emg.steps.0.{name}.{name}")
    assert why in found


@pytest.mark.parametrize(
    ("rule", "where", "why"),
    [
        ({"bads": {"threshold": 0.5}}, "threshold", "greater than 1"),
        ({"bads": {"interpolat": False}}, "interpolat", "not permitted"),
        ({"ica": {"threshold": 3.0}}, "threshold", "less than 1"),
        ({"ica": {"n_components": 15}}, "n_components", "less than 1"),
    ],
)
def test_what_a_rule_cannot_be_is_refused_by_its_key(rule, where, why):
    found, reason = refusal(modality="eeg", steps=[rule], phase="zero", transductive=True)
    assert found.endswith(where)
    assert why in reason


@pytest.mark.parametrize("to", ["Cz", [], ["Cz", "Cz"], [""]])
def test_a_reference_is_the_average_or_names_electrodes_once(to):
    with pytest.raises(ValidationError, match=r"modalities\.eeg\.steps\.0\.reference"):
        read("eeg", [{"reference": to}])


FOR = {"reference": "eeg", "bads": "eeg", "ica": "eeg", "split": "eda", "rate": "ecg and ppg and resp"}


@pytest.mark.parametrize("name", FOR)
def test_a_step_for_another_modality_is_refused(name):
    step = {"reference": "average"} if name == "reference" else name
    where, why = refusal(modality="temp", steps=[step], phase="zero", transductive=True)
    assert (where, why) == ("", f"modalities.temp.steps: {name} is for {FOR[name]}")


@pytest.mark.parametrize(("modality", "step"), [("eeg", "bads"), ("eeg", "ica"), ("ecg", "rate"), ("resp", "rate")])
def test_a_step_that_looks_ahead_is_refused_where_nothing_may(modality, step):
    where, why = refusal(modality=modality, steps=[step], transductive=True)
    assert where == f"modalities.{modality}"
    assert why == f"the step {step} looks ahead, which phase = causal does not allow; phase = zero does"
    read(modality, [step], phase="zero", transductive=True)


def test_nothing_looks_ahead_unless_a_study_says_so():
    assert Signals(modalities={"emg": {"sfreq": 128}}).modalities["emg"].phase == "causal"


def test_components_of_whole_recordings_need_that_to_be_allowed():
    where, why = refusal(modality="eeg", steps=["ica"], phase="zero")
    assert (where, why) == ("", "modalities.eeg.steps: ica is fitted on whole recordings; transductive allows it")


@pytest.mark.parametrize("lead_s", [0.0, 2.5])
def test_a_baseline_longer_than_the_lead_is_refused(lead_s):
    where, why = refusal(steps=[{"baseline": 3.0}], lead_s=lead_s)
    assert (where, why) == ("", "modalities.emg.steps: a baseline of 3 s before the trial needs lead_s")
    read(steps=[{"baseline": 3.0}], lead_s=3.0)


@pytest.mark.parametrize(("modality", "name"), [("emg", "resample"), ("eda", "split"), ("resp", "rate")])
def test_what_is_done_once_is_refused_twice(modality, name):
    assert refusal(modality=modality, steps=[name, {"reject": 1.0}, name], phase="zero") == (
        f"modalities.{modality}",
        f"steps {name} twice",
    )


@pytest.mark.parametrize("step", [{"notch": [50]}, {"bandpass": [1, 30]}, {"baseline": 1.0}, {"reject": 1.0}])
def test_what_would_take_the_rate_for_the_signal_is_refused(step):
    where, why = refusal(modality="resp", steps=["rate", step], phase="zero")
    assert (where, why) == (
        "modalities.resp",
        f"steps {next(iter(step))} after rate, which it would take for the signal",
    )
    read("resp", ["resample", step, "rate"], phase="zero", transductive=True, lead_s=1.0)


@pytest.mark.parametrize(
    ("modality", "step"),
    [
        ("ecg", {"notch": [50]}),
        ("ecg", {"bandpass": [1, 30]}),
        ("ecg", {"resample": {}}),
        ("eda", {"split": 0.05}),
        ("eeg", {"ica": {}}),
    ],
)
def test_a_filter_after_rejection_is_refused(modality, step):
    """An artefact of its masked second would ring on in the valid ones after it."""
    where, why = refusal(modality=modality, steps=[{"reject": 1e-3}, step], phase="zero")
    assert where == f"modalities.{modality}"
    assert why.startswith(f"steps {next(iter(step))} after reject, whose seconds are masked, but would ring on")


@pytest.mark.parametrize("steps", ["resample", {"resample": {}}])
def test_steps_are_a_list(steps):
    with pytest.raises(ValidationError, match=r"modalities\.emg\.steps\n  Input should be a valid list"):
        Signals(modalities={"emg": {"sfreq": 128, "steps": steps}})
