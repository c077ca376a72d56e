"""Where electrodes are on a standard head."""

import functools
import re

import mne
import numpy as np


@functools.cache
def positions() -> dict[str, np.ndarray]:
    """Places in metre by the electrode's name in small letters (MNE's colin27_1005, which knows T3 to T6 too)."""
    return {name.lower(): place for name, place in _montage().items()}


def electrode(name: str) -> str:
    """An electrode by its usual name, whatever a file's capitals and the reference that it names; others as they are.

    ``FP1-REF`` and ``Fp1-LE`` are ``Fp1``. Of two electrodes' difference (``C3-A2``) nothing is taken off.
    """
    return _spelling().get(re.sub(r"-(ref|le|avg)$", "", name.lower()), name)


@functools.cache
def _spelling() -> dict[str, str]:
    return {name.lower(): name for name in _montage()}


@functools.cache
def _montage() -> dict[str, np.ndarray]:
    return mne.channels.make_standard_montage("colin27_1005").get_positions()["ch_pos"]
