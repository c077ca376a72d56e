"""Where electrodes are on a standard head."""

import functools

import mne
import numpy as np


@functools.cache
def positions() -> dict[str, np.ndarray]:
    """Places in metre by the electrode's name in small letters (MNE's colin27_1005, which knows T3 to T6 too)."""
    montage = mne.channels.make_standard_montage("colin27_1005")
    return {name.lower(): place for name, place in montage.get_positions()["ch_pos"].items()}
