"""Which channels of a recording a student asks for, by the names that it knows."""

import pytest

from mtkd.deploy.predict import _asked
from mtkd.errors import MtkdError


def test_a_name_of_one_modality_is_asked_for_as_it_is() -> None:
    assert _asked({"ecg": ["1", "V[5]"], "eda": ["GSR"]}, {}) == {"1": "ecg", "V[[]5]": "ecg", "GSR": "eda"}


def test_a_name_of_two_modalities_is_asked_for_with_the_type_before_it() -> None:
    known = {"ecg": ["1"], "emg": ["1", "zyg"]}
    assert _asked(known, {"chest": "ECG 1"}) == {"ECG 1": "ecg", "EMG 1": "emg", "zyg": "emg"}
    told = r"^predict\.channels: '1' is a channel of ecg and emg; say ECG 1 or EMG 1$"
    with pytest.raises(MtkdError, match=told):
        _asked(known, {"chest": "1"})
