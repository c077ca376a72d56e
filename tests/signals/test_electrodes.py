"""Electrodes together: which of them are bad and what stands in for them, and eyes taken off the EEG."""

import warnings
from dataclasses import replace

import mne
import numpy as np
import pytest

from mtkd.config import Signals
from mtkd.errors import MtkdError
from mtkd.signals.channels import GENEVA
from mtkd.signals.montage import positions
from mtkd.signals.preprocess import preprocess

SFREQ = 128.0
FEW = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "Fz", "Cz", "Pz", "T7", "T8"]


def places(names) -> np.ndarray:
    found = np.array([positions()[name.lower()] for name in names])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def field(names, seconds: float = 10, seed: int = 0) -> np.ndarray:
    """A smooth field of ten sources around the head, 1 to 30 Hz, and a little noise of each electrode; in volt."""
    rng = np.random.default_rng(seed)
    at = rng.normal(size=(10, 3))
    weights = np.exp(4 * (places(names) @ (at / np.linalg.norm(at, axis=1, keepdims=True)).T - 1))
    sources = rng.laplace(size=(10, round(seconds * SFREQ)))
    sources = mne.filter.filter_data(sources, SFREQ, 1, 30, method="iir", verbose="error")
    return 1e-5 * weights @ sources + 5e-7 * rng.normal(size=(len(names), sources.shape[1]))


def loud(rows: np.ndarray, row: int) -> np.ndarray:
    rows = rows.copy()
    rows[row] += 1e-4 * np.random.default_rng(7).normal(size=rows.shape[1])
    return rows


def kept(found: np.ndarray, true: np.ndarray) -> float:
    """The share of a channel's variance that is right."""
    return 1 - np.var(found - true) / np.var(true)


@pytest.mark.parametrize("names", [GENEVA, FEW, FEW[:8]], ids=len)
@pytest.mark.parametrize("broken", ["loud", "flat", "silent"])
def test_a_bad_electrode_is_interpolated_from_those_around_it(one, names, broken):
    row, true = list(names).index("C3"), field(names)
    rows = loud(true, row)
    if broken != "loud":
        rows[row] = 3e-5 if broken == "flat" else np.nan
    (found,) = one(rows, "eeg", names=list(names), phase="zero", steps=[{"bads": {"threshold": 2.0}}])
    assert found.valid.all()
    assert kept(found.data[row], true[row]) > 0.5
    others = np.arange(len(names)) != row
    np.testing.assert_allclose(found.data[others], rows[others], atol=1e-9)


def test_interpolation_is_as_the_field_around_it_says(one):
    row, true = GENEVA.index("Cz"), field(GENEVA)
    (found,) = one(loud(true, row), "eeg", names=list(GENEVA), phase="zero", steps=["bads"])
    around = [GENEVA.index(name) for name in ("FC1", "FC2", "CP1", "CP2")]
    assert kept(found.data[row], true[row]) > 0.9
    assert np.corrcoef(found.data[row], true[around].mean(axis=0))[0, 1] > 0.9


def test_a_bad_electrode_is_masked_where_that_is_asked_for(one):
    row, true, rule = GENEVA.index("C3"), field(GENEVA), {"threshold": 2.0, "interpolate": False}
    for rows in (loud(true, row), np.where(np.arange(32)[:, None] == row, 0.0, true)):
        (found,) = one(rows, "eeg", names=list(GENEVA), phase="zero", steps=[{"bads": rule}])
        assert np.flatnonzero(~found.valid.any(axis=1)).tolist() == [row]
        assert found.valid.sum() == 31 * 10
        assert not found.data[row].any()


def test_an_electrode_that_no_montage_knows_cannot_be_interpolated_and_is_masked(one):
    names = [*FEW[:-1], "chin"]
    (found,) = one(loud(field(FEW), 14), "eeg", names=names, phase="zero", steps=["bads"])
    assert np.flatnonzero(~found.valid.any(axis=1)).tolist() == [14]


def test_good_electrodes_stay_as_they_are(one):
    rows = field(GENEVA, seed=3)
    (found,) = one(rows, "eeg", names=list(GENEVA), phase="zero", steps=[{"bads": {"threshold": 3.0}}])
    assert found.valid.all()
    np.testing.assert_allclose(found.data, rows, atol=1e-9)


def test_of_few_electrodes_none_is_bad(one):
    rows = loud(field(FEW[:3]), 1)
    (found,) = one(rows, "eeg", names=FEW[:3], phase="zero", steps=["bads"])
    assert found.valid.all()
    np.testing.assert_allclose(found.data, rows, atol=1e-9)


def test_an_electrode_that_is_off_among_few_stays_masked(one):
    rows = field(FEW[:3])
    rows[1] = 0.0
    (found,) = one(rows, "eeg", names=FEW[:3], phase="zero", steps=["bads"])
    assert found.valid.all(axis=1).tolist() == [True, False, True]


def test_a_reference_after_bad_electrodes_does_not_hear_them(one):
    row, true = GENEVA.index("C3"), field(GENEVA)
    steps = ["bads", {"reference": "average"}]
    good, late = (
        one(loud(true, row), "eeg", names=list(GENEVA), phase="zero", steps=each)[0] for each in (steps, steps[::-1])
    )
    expected = true - true.mean(axis=0)
    others = [each for each in range(32) if each != row]
    first, last = (np.array([kept(found.data[each], expected[each]) for each in others]) for found in (good, late))
    assert (first > 0.95).all()
    assert (first > last).all()
    assert last.mean() < 0.9


def blinks(seconds: float, seed: int = 0) -> np.ndarray:
    """Some twenty a minute, each of 200 microvolt and a quarter of a second."""
    rng, times = np.random.default_rng(seed), np.arange(round(seconds * SFREQ)) / SFREQ
    at = np.cumsum(rng.uniform(2, 4, size=int(seconds / 3)))
    return 2e-4 * np.exp(-(((times[:, None] - at) / 0.1) ** 2)).sum(axis=1)


SPANS = [(0.0, 20.0), (20.0, 41.0)]
STEPS = [{"bandpass": [1, 40]}, "ica"]


def with_eyes(seconds: float = 41):
    brain, eyes = field(FEW, seconds), blinks(seconds)
    front = np.exp(4 * (places(FEW) @ places(["Fpz"]).T - 1))
    eog = eyes + 5e-6 * np.random.default_rng(5).normal(size=len(eyes))
    return brain, brain + front * eyes, eog[None]


def study(steps=STEPS, **settings) -> Signals:
    eeg = {"sfreq": SFREQ, "phase": "zero", "steps": steps} | settings
    return Signals(modalities={"eeg": eeg}, transductive=True)


def eeg_of(given, signals) -> np.ndarray:
    return np.hstack([trial["eeg"].data for _, trial in preprocess(given, signals)])


def test_blinks_are_taken_off_the_eeg_and_the_rest_stays(recording):
    brain, seen, eog = with_eyes()
    given = recording({"eeg": seen, "eog": eog}, SPANS, names={"eeg": FEW})
    cleaned, filtered = eeg_of(given, study()), eeg_of(given, study(STEPS[:1]))
    clean = eeg_of(recording({"eeg": brain}, SPANS, names={"eeg": FEW}), study(STEPS[:1]))
    assert cleaned.shape == (15, 41 * 128)
    for name in ("Fp1", "Fp2", "Fz"):
        row = FEW.index(name)
        left = np.var(cleaned[row] - clean[row]) / np.var(filtered[row] - clean[row])
        assert left < 0.1, name
    for name in ("O1", "O2", "Pz", "P3"):
        row = FEW.index(name)
        assert kept(cleaned[row], clean[row]) > 0.9, name


def test_components_are_those_of_the_whole_recording_and_the_same_each_time(recording):
    _, seen, eog = with_eyes()
    both = eeg_of(recording({"eeg": seen, "eog": eog}, SPANS, names={"eeg": FEW}), study())
    again = eeg_of(recording({"eeg": seen, "eog": eog}, SPANS, names={"eeg": FEW}), study())
    alone = eeg_of(recording({"eeg": seen, "eog": eog}, SPANS[:1], names={"eeg": FEW}), study())
    np.testing.assert_array_equal(both, again)
    assert not np.array_equal(both[:, : alone.shape[1]], alone)


def test_eyes_that_hear_nothing_of_the_brain_take_nothing_off(recording):
    brain, _, _ = with_eyes()
    still = 1e-6 * np.random.default_rng(1).normal(size=(1, brain.shape[1]))
    given = recording({"eeg": brain, "eog": still}, SPANS, names={"eeg": FEW})
    np.testing.assert_allclose(eeg_of(given, study()), eeg_of(given, study(STEPS[:1])), atol=2e-6)


def test_eyes_at_another_rate_come_to_the_same_by_resampling_before(recording):
    _, seen, eog = with_eyes()
    rows = {"eeg": seen, "eog": eog[:, ::2]}
    spans = [(0.0, 20.0), (20.008, 40.99)]  # where one rate has a sample more than the other
    given = recording(rows, spans, {"eeg": SFREQ, "eog": SFREQ / 2}, {"eeg": FEW})
    cleaned = eeg_of(given, study([{"bandpass": [1, 20]}, "resample", "ica"], sfreq=32.0))
    filtered = eeg_of(given, study([{"bandpass": [1, 20]}, "resample"], sfreq=32.0))
    assert np.var(cleaned[0]) < 0.5 * np.var(filtered[0])
    with pytest.raises(MtkdError, match=r"^s1\.dat: signals\.modalities\.eeg\.steps: ica needs EOG .* rate of the EEG"):
        eeg_of(given, study([{"bandpass": [1, 20]}, "ica"]))


def test_components_without_eyes_are_refused(recording):
    given = recording({"eeg": with_eyes()[1]}, SPANS, names={"eeg": FEW})
    with pytest.raises(MtkdError, match=r"^s1\.dat: signals\.modalities\.eeg\.steps: ica needs EOG in the recording"):
        eeg_of(given, study())


@pytest.mark.parametrize("off", [0.0, np.nan])
def test_electrodes_that_are_all_off_have_no_components_and_stay_masked(recording, off):
    _, seen, eog = with_eyes()
    given = recording({"eeg": np.full_like(seen, off), "eog": eog}, SPANS, names={"eeg": FEW})
    trials = [trial["eeg"] for _, trial in preprocess(given, study())]
    assert not any(trial.data.any() for trial in trials)
    assert not trials[1].valid.any()  # one that stands still is known to be off after some seconds


@pytest.mark.parametrize("off", [0.0, 3.0, np.nan])
def test_eyes_that_are_off_take_nothing_off_which_is_told_and_one_of_two_is_passed_over(recording, off, capsys):
    """Their correlation with a component is no number, of which a library would warn."""
    _, seen, eog = with_eyes()
    dead = np.full_like(eog, off)
    with warnings.catch_warnings(action="error"):
        found = eeg_of(recording({"eeg": seen, "eog": dead}, SPANS, names={"eeg": FEW}), study())
        told = capsys.readouterr().out
        both = eeg_of(recording({"eeg": seen, "eog": np.vstack([dead, eog])}, SPANS, names={"eeg": FEW}), study())
    assert told.endswith("s1.dat: ica takes nothing off, as eog0 never moved\n")
    given = recording({"eeg": seen, "eog": eog}, SPANS, names={"eeg": FEW})
    np.testing.assert_allclose(found, eeg_of(given, study(STEPS[:1])), atol=1e-9)
    np.testing.assert_array_equal(both, eeg_of(given, study()))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("step", ["bads", "ica"])
def test_what_is_made_of_many_electrodes_does_not_hear_a_joint(recording, step):
    """Before any high-pass, which a study may have behind them."""
    _, seen, eog = with_eyes()
    rows = loud(seen, 4) if step == "bads" else seen
    rows[:, 1535:1537] = np.nan
    found = []
    for height in (0.01, 0.05):
        made = recording({"eeg": rows + height * (np.arange(rows.shape[1]) >= 1536), "eog": eog}, names={"eeg": FEW})
        streams = {kind: replace(stream, joints=(1535,)) for kind, stream in made.streams.items()}
        ((_, trial),) = preprocess(replace(made, streams=streams), study([step, {"bandpass": [1, 40]}]))
        found.append(trial["eeg"])
    np.testing.assert_array_equal(found[0].valid, found[1].valid)
    np.testing.assert_allclose(found[0].data, found[1].data, atol=1e-7)
