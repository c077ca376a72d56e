"""Which channels of a recording a student hears."""

import numpy as np

from mtkd.deploy import predict
from mtkd.signals.recording import Stream


def matched(theirs: list[str], known: list[str]) -> dict[str, float]:
    """What the student hears of channels that hold 0, 1, 2 throughout."""
    values = np.arange(len(theirs), dtype=float)[:, None]
    stream = Stream(theirs, 128.0, 9, lambda start, stop: values.repeat(stop - start, axis=1))
    found = predict._matched(stream, known, "emg")
    return dict(zip(found.ch_names, found.read(0, 9)[:, 4].tolist(), strict=True))


def test_the_only_channel_of_a_kind_is_the_students_whatever_its_name() -> None:
    assert matched(["I"], ["ECG"]) == {"ECG": 0.0}


def test_channels_the_student_does_not_know_are_no_signal() -> None:
    assert matched(["leg", "arm"], ["zEMG", "tEMG"]) == {}
    assert matched(["leg", "tEMG"], ["zEMG", "tEMG"]) == {"tEMG": 1.0}
    assert matched(["P1", "P2"], ["Plet"]) == {}
    assert matched(["P1", "Plet"], ["Plet"]) == {"Plet": 1.0}


def test_a_name_may_have_the_modality_before_it() -> None:
    assert matched(["EMG 2", "leg", "1"], ["1", "2"]) == {"1": 2.0, "2": 0.0}
    assert matched(["EMG 1", "1"], ["1", "2"]) == {"1": 1.0}
