"""Statistics fitted on training subjects and kept with the model."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Standardize(nn.Module):
    """Subtract a mean and divide by a standard deviation, one of each for every entry of ``shape``.

    Both are buffers, so they are saved with the weights and never fitted again.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))
        self._sums: Tensor | None = None

    def update(self, values: Float[Tensor, "n *shape"], mask: Bool[Tensor, "n *shape"]) -> None:
        """Take in some training values; those that the mask leaves out do not count."""
        exact, counted = values.double(), mask.double()
        sums = torch.stack([counted.sum(0), (exact * counted).sum(0), (exact.square() * counted).sum(0)]).cpu()
        self._sums = sums if self._sums is None else self._sums + sums

    def finish(self, total: Callable[[Tensor], Tensor]) -> None:
        """Settle mean and deviation, infinite where no training value counted.

        ``total`` sums a tensor over all ranks, each of which took in its share.
        """
        if self._sums is None:
            self._sums = torch.zeros(3, *self.mean.shape, dtype=torch.float64)
        count, first, second = total(self._sums)
        mean = first / count.clamp_min(1)
        variance = second / count.clamp_min(1) - mean.square()
        self.mean.copy_(mean)
        self.std.copy_(torch.where(variance > 1e-12 * mean.square(), variance.clamp_min(0).sqrt(), 1.0))
        self.std[count == 0] = torch.inf  # nothing is known of it: whatever comes later is no news
        self._sums = None

    def forward(self, values: Float[Tensor, "*batch_and_shape"]) -> Float[Tensor, "*batch_and_shape"]:
        """Standardised values."""
        return (values - self.mean) / self.std
