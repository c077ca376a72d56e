"""The electrode graph: positions of the montage and what follows from their distances."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mtkd.errors import MtkdError
from mtkd.signals.montage import positions


def electrode_positions(ch_names: list[str]) -> Float[Tensor, "node 3"]:
    """Places on a standard head, metre (MNE's colin27_1005, which knows the old names T3 to T6 too).

    Raises:
        MtkdError: an electrode is not in the montage.
    """
    known = positions()
    for name in ch_names:
        if name.lower() not in known:
            raise MtkdError(f"electrode {name!r} is not in the standard montage; map it or ignore it in data.channels")
    return torch.tensor(np.stack([known[name.lower()] for name in ch_names]), dtype=torch.float32)


def nearness(positions: Float[Tensor, "node 3"], sigma_m: float) -> Float[Tensor, "node node"]:
    """A Gaussian of the distance between electrodes; 0 on the diagonal."""
    distances = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist")  # exact, so symmetric
    weights = torch.exp(-distances.square() / (2 * sigma_m**2))
    return weights.fill_diagonal_(0)
