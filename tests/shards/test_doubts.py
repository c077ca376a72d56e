"""What may be a mistake is told before anything is trained."""

import pytest

from mtkd.shards.summary import doubts
from mtkd.signals.preprocess import Signal


@pytest.fixture
def told(make_set, make_trial, make_study, tmp_path):
    """The doubts about a set of one trial for each subject, whose channels are given."""

    def make(ch_names: list[dict], *overrides: str, seconds: float = 6.0, off: tuple[str, ...] = ()) -> list[str]:
        trials = []
        for index, names in enumerate(ch_names):
            rates = dict.fromkeys(names, 16.0)
            subject, span, signals = make_trial(
                "t01", seconds, rates, names, subject=f"s{index}", ratings=RATINGS[index]
            )
            for modality in off:
                signal = signals[modality]
                signals[modality] = Signal(signal.data, signal.valid & False, signal.sfreq, signal.ch_names)
            trials.append((subject, span, signals))
        shards = make_set(tmp_path / "set", {"x.tar": trials})
        study = make_study(
            "signals.modalities={eeg: {sfreq: 128}, ecg: {sfreq: 128}}",
            "temporal={modalities: [eeg], patch_s: 2}",
            "distill.modalities=[ecg]",
            "labels={task: 0.5}",
            "windows={window_s: 2, hop_s: 2}",
            *overrides,
        )
        return doubts(study, shards.index.samples)

    return make


RATINGS = 4 * [{"task": 0.0}, {"task": 1.0}]
GOOD = {"eeg": ["Fz", "Cz"], "ecg": ["ECG"]}


def test_nothing_is_said_of_a_set_that_is_as_it_should_be(told):
    assert told([GOOD, GOOD]) == []


def test_a_sensor_by_two_names_is_told(told):
    (said,) = told([GOOD, GOOD, GOOD | {"ecg": ["II"]}])
    assert said.startswith("ecg: of 3 trials not all have ECG (2), II (1); ")


def test_electrodes_without_a_place_are_told(told):
    (said,) = told([GOOD | {"eeg": ["Fz", "acc"]}] * 2)
    assert said.startswith("eeg: no place on the head is known of acc, which the spatial teacher needs; ")


def test_a_modality_that_is_masked_throughout_is_told(told):
    (said,) = told([GOOD, GOOD], off=("ecg",))
    assert said.startswith("ecg: masked throughout")


def test_trials_shorter_than_a_window_are_told(told):
    said = told([GOOD, GOOD], seconds=1.5)
    assert said[0] == "windows: 2 trials of 2 shorter than one of 2 s"
    assert said[1].startswith("subjects: no trial of s0, s1 is 2 s long")


def test_labels_that_leave_nothing_to_learn_are_told(told):
    assert told([GOOD]) == ["labels: no trial is of the class 'high task'; ratings are task (0 to 0)"]


@pytest.mark.parametrize(
    ("task", "name"), [({"eeg": ["Fz", "Cz"], "ecg": ["II"]}, "II"), ({"eeg": ["Fz", "Cz"]}, "ecg")]
)
def test_a_mask_that_tells_the_class_is_told(told, task, name):
    said = told(4 * [GOOD, task])
    found = [sentence for sentence in said if sentence.endswith("so that its absence tells the class")]
    assert len(found) == (2 if name == "II" else 1)  # of a modality, and not of each of its channels, too
    assert any(f" {name} gives a signal in 100% of the trials of " in sentence for sentence in found)
    assert not [sentence for sentence in told(2 * [GOOD, GOOD, task, task]) if sentence.endswith("tells the class")]


def test_a_channel_that_is_called_as_its_modality_is_not_counted_twice(told):
    whole = {"eeg": ["Fz"], "ecg": ["ecg"]}
    assert told([whole, whole, whole, {"eeg": ["Fz"]}] * 2) == []  # all of one class and half of the other


def test_names_that_hardly_differ_are_told(make_set, make_trial, make_study, tmp_path):
    trials = []
    for index, subject in enumerate(["S01", "s 01", "Ｓ０１", "s2", "s10"]):
        trials.append(make_trial("t01", 6.0, {"eeg": 16.0}, {"eeg": ["Fz"]}, subject=subject, ratings=RATINGS[index]))
    shards = make_set(tmp_path / "set", {f"{index}.tar": [trial] for index, trial in enumerate(trials)})
    said = doubts(make_study("labels={task: 0.5}"), shards.index.samples)
    (names,) = [sentence for sentence in said if sentence.startswith("subjects:")]
    assert names.startswith("subjects: S01, s 01, Ｓ０１ hardly differ; ")


def test_whose_trials_are_all_too_short_is_told(told):
    said = told([GOOD, GOOD], "windows={window_s: 8, hop_s: 8}", "temporal.patch_s=8")
    assert "subjects: no trial of s0, s1 is 8 s long, so that no model hears of them" in said
