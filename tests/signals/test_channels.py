"""Names, modalities and units."""

from typing import get_args

import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mtkd.config import Modality
from mtkd.errors import MtkdError
from mtkd.signals.channels import GENEVA, MNE_TYPE, UNIT, conductance, plain_name, to_siemens, type_channels

floats = arrays.arrays(
    float, st.integers(0, 20), elements=st.floats(-1e12, 1e12, allow_subnormal=False) | st.just(np.inf)
)


@given(floats)
def test_conductance_is_the_inverse_where_skin_has_such_a_resistance_and_nan_elsewhere(resistance):
    with np.errstate(all="raise", over="ignore"):
        found = conductance(resistance)
    skin = (resistance >= 1e4) & (resistance <= 1e9)
    np.testing.assert_array_equal(np.isnan(found), ~skin)
    np.testing.assert_allclose(found[skin] * resistance[skin], 1, rtol=1e-12)


@given(arrays.arrays(float, st.integers(1, 20), elements=st.floats(-1e-4, 5e-3) | st.floats(-1e-8, 1e-8)))
def test_a_conductance_that_no_skin_has_is_none(siemens):
    found = to_siemens(siemens * 1e6, "uS", "x")
    skin = (siemens * 1e6 * 1e-6 >= 1e-9) & (siemens * 1e6 * 1e-6 <= 1e-4)
    np.testing.assert_allclose(found, np.where(skin, siemens, np.nan), rtol=1e-12)


@pytest.mark.parametrize("value", [5.0, -5.0])
def test_a_conductance_far_from_skin_is_in_another_unit_on_either_side(value):
    with pytest.raises(MtkdError, match=rf"^x: its skin conductance is {value:g} S, so not in the unit 'S'"):
        to_siemens(np.full(9, value), "S", "x")


def test_conductance_of_no_number_is_none():
    assert np.isnan(conductance(np.array([np.nan, -np.inf]))).all()


@pytest.mark.parametrize(
    ("conductances", "resistances"),
    [(("uS", 5.0), ("kOhm", 200.0)), (("S", 5e-6), ("Ohm", 2e5)), (("nS", 5e3), ("ohm", 2e5))],
)
def test_one_skin_in_units_of_conductance_and_of_resistance(conductances, resistances):
    for unit, value in (conductances, resistances):
        np.testing.assert_allclose(to_siemens(np.array([value]), unit, "x"), 5e-6, rtol=1e-12)


@pytest.mark.parametrize("unit", ["", "us", "V", "uV", "µs", "S/m"])
def test_another_unit_is_refused_with_its_source(unit):
    with pytest.raises(MtkdError, match=f"^x.edf: skin conductance in the unit {unit!r}"):
        to_siemens(np.ones(1), unit, "x.edf")


def test_every_modality_has_a_type_and_a_unit():
    assert set(MNE_TYPE) == set(UNIT) == set(get_args(Modality))


def test_the_electrodes_are_in_the_standard_montage():
    assert len(set(GENEVA)) == 32
    assert set(GENEVA) <= set(mne.channels.make_standard_montage("colin27_1005").ch_names)


def test_the_first_pattern_wins_and_case_counts():
    patterns = {"EEG A*": "ignore", "EEG ?z": "eeg", "EEG *": "eog", "*": "emg"}
    names = ["EEG A1", "EEG Fz", "EEG Fp1", "eeg Fz"]
    assert list(type_channels(names, patterns, "x").items()) == list(
        zip(names, ["ignore", "eeg", "eog", "emg"], strict=True)
    )


@given(st.lists(st.text(min_size=1), unique=True))
def test_every_channel_is_typed_in_its_order_or_refused(names):
    assert list(type_channels(names, {"*": "eeg"}, "x")) == names
    if names:
        with pytest.raises(MtkdError, match=r"^x: channel .* matches no pattern of data\.channels"):
            type_channels(names, {}, "x")


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("EEG Fp1", "Fp1"),
        ("ECG ECG", "ECG"),
        ("eeg Fp1", "Fp1"),
        ("EEG A2-A1", "A2-A1"),
        ("Fp1", "Fp1"),
        ("EEG", "EEG"),
        ("EEG ", "EEG "),
        ("EEG   ", "EEG   "),
        ("EEG  Fp1", "Fp1"),
        ("Skin temp", "Skin temp"),
        ("EMG zygomaticus left", "zygomaticus left"),
    ],
)
def test_plain_names(name, plain):
    assert plain_name(name) == plain
