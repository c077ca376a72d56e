"""The schema of a study: what a fingerprint sees of it, and what follows from it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mtkd.config import Cache, ModalitySignals, Study, Windows
from mtkd.files import fingerprint
from mtkd.study import read_study


@pytest.fixture(scope="module")
def simulated(repo):
    return repo / "configs" / "study" / "simulated.yaml"


numbers = st.integers(1, 500)


@given(numbers, numbers, st.integers(0, 9))
def test_whether_an_integer_or_a_float_was_written_changes_no_fingerprint(sfreq, window, label):
    def written(as_type):
        modality = ModalitySignals(sfreq=as_type(sfreq), steps=[{"bandpass": (as_type(1), None)}, "split"])
        return [modality.model_dump(), Windows(window_s=as_type(window), hop_s=as_type(window)).model_dump()]

    assert fingerprint(written(int)) == fingerprint(written(float))


def test_whether_integers_or_floats_stand_in_the_file_changes_no_fingerprint(simulated):
    plain = [
        "windows.window_s=12",
        "labels.valence=4",
        "signals.modalities.eeg.steps=[{bandpass: [2, 40]}]",
        "spatial.bands=[[1, 4]]",
    ]
    point = [
        "windows.window_s=12.0",
        "labels.valence=4.0",
        "signals.modalities.eeg.steps=[{bandpass: [2.0, 40.0]}]",
        "spatial.bands=[[1., 4.]]",
    ]
    studies = [read_study(simulated, [*given, "distill.teachers.spatial=1"]) for given in (plain, point)]
    assert studies[0] == studies[1]
    assert len({fingerprint(study.model_dump()) for study in studies}) == 1


def test_defaults_written_out_change_no_fingerprint(simulated):
    plain = read_study(simulated)
    spelt = read_study(simulated, ["cache.dtype=float16", "distill.temperature=2", "spatial.sigma_m=0.05"])
    assert fingerprint(plain.model_dump()) == fingerprint(spelt.model_dump())


@pytest.mark.parametrize("name", ["simulated", "eegmat"])
def test_a_study_goes_through_json_and_back(repo, name):
    study = read_study(repo / "configs" / "study" / f"{name}.yaml")
    back = Study.model_validate_json(json.dumps(study.model_dump()))
    assert back == study
    assert fingerprint(back.model_dump()) == fingerprint(study.model_dump())


def test_every_change_of_a_value_changes_the_fingerprint(simulated):
    changes = [
        "seed=1",
        "labels.valence=4",
        "labels={arousal: 5, valence: 5}",
        "windows.hop_s=12",
        "distill.teachers={}",
    ]
    prints = {fingerprint(read_study(simulated, [change]).model_dump()) for change in changes}
    assert len(prints | {fingerprint(read_study(simulated).model_dump())}) == len(changes) + 1


def test_a_study_cannot_be_changed_after_reading(simulated):
    study = read_study(simulated)
    with pytest.raises(ValueError, match="frozen"):
        study.seed = 3


def test_class_names_follow_the_bits_of_the_class_index(simulated):
    study = read_study(simulated)
    assert study.n_classes == 4
    assert study.class_names[0] == "low valence, low arousal"
    assert study.class_names[1] == "high valence, low arousal"
    assert study.class_names[2] == "low valence, high arousal"
    assert read_study(simulated, ["classes=[a, b, c, d]"]).class_names == ["a", "b", "c", "d"]


@pytest.mark.parametrize("limits", [{0: 60.0}, {0: 60.0, "cpu": 8.0}, {"1": 2.0}])
def test_what_devices_may_take_goes_through_json_and_back(limits):
    cache = Cache(max_memory=limits)
    again = Cache.model_validate_json(cache.model_dump_json())  # as a rank or a part of Ray's reads it
    assert again == cache
    assert again.max_memory == {int(key) if key != "cpu" else key: most for key, most in limits.items()}


@pytest.mark.parametrize("device", ["gpu", "cuda:0", -1, "-1", "1.5"])
def test_what_is_no_device(device):
    with pytest.raises(ValidationError, match="is neither a GPU's number nor cpu"):
        Cache(max_memory={device: 1.0})
