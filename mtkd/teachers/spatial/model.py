"""The spatial teacher: a graph network over electrodes that carry band-wise differential entropy."""

import itertools
from collections.abc import Callable, Iterable

import torch
import torch_geometric.nn
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mtkd.config import Spatial
from mtkd.errors import MtkdError
from mtkd.layers.heads import Heads, TeacherSignal
from mtkd.layers.spectrum import differential_entropy
from mtkd.layers.standardize import Standardize
from mtkd.shards.batch import Batch
from mtkd.shards.schema import Layout
from mtkd.teachers.spatial.graph import electrode_positions, nearness

# Every pair of electrodes is joined, so PyG's dense convolutions: products of small matrices in place of scattering
# along a thousand edges a window.
_CONVOLUTIONS = ("DenseGraphConv", "DenseGCNConv", "DenseSAGEConv")


class SpatialTeacher(nn.Module):
    """Answers for windows from the EEG alone, each window by itself.

    Edges join all electrodes. Their weight is the nearness on the montage plus a learned symmetric part, cut off at
    zero.
    """

    near: Tensor

    def __init__(self, settings: Spatial, layout: Layout, n_classes: int) -> None:
        super().__init__()
        if settings.conv not in _CONVOLUTIONS:
            raise MtkdError(f"spatial.conv = {settings.conv}: known are {', '.join(_CONVOLUTIONS)}")
        for low, high in settings.bands:
            if not 0 <= low < high <= layout.sfreq / 2:
                raise MtkdError(f"spatial.bands: {low:g} to {high:g} Hz is no band of EEG at {layout.sfreq:g} Hz")
        n_chans, width = len(layout.ch_names), settings.width
        self.layout, self.bands = layout, settings.bands
        self.scale = Standardize((n_chans, len(settings.bands)))
        self.register_buffer("near", nearness(electrode_positions(layout.ch_names), settings.sigma_m))
        self.learned = nn.Parameter(torch.zeros(n_chans, n_chans), requires_grad=settings.learned_adjacency)
        convolution = getattr(torch_geometric.nn, settings.conv)
        widths = [len(settings.bands)] + [width] * settings.layers
        self.convolutions = nn.ModuleList(convolution(a, b) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(settings.layers))
        self.dropout = settings.dropout
        self.readout = nn.Sequential(nn.Flatten(1), nn.Linear(n_chans * width, 2 * width), nn.GELU())
        self.heads = Heads(2 * width, n_classes, settings.dropout, confidence=settings.confidence_weight > 0)

    @property
    def adjacency(self) -> Float[Tensor, "node node"]:
        """Weights of the edges: symmetric, not negative, zero on the diagonal."""
        symmetric = self.near + (self.learned + self.learned.T) / 2
        return symmetric.relu() * (1 - torch.eye(len(symmetric), device=symmetric.device))

    def fit_statistics(self, batches: Callable[[], Iterable[Batch]], total: Callable[[Tensor], Tensor]) -> None:
        """Fit the scale of the differential entropies on training trials."""
        for batch in batches():
            entropies, valid = self._entropies(batch)[batch.steps], batch.valid["eeg"][batch.steps]
            self.scale.update(entropies, valid[..., None].expand(entropies.shape))
        self.scale.finish(total)

    def forward(self, batch: Batch) -> TeacherSignal:
        """Answers for all windows of the trials."""
        return self.from_nodes(self.nodes(batch), batch)

    def nodes(self, batch: Batch) -> Float[Tensor, "batch step node band"]:
        """Standardised differential entropies, 0 (the training mean) where an electrode is not valid."""
        return self.scale(self._entropies(batch)) * batch.valid["eeg"][..., None]

    def heard(self, batch: Batch) -> Bool[Tensor, "batch step"]:
        """The windows that ``forward`` has an answer for."""
        return batch.present("eeg")

    def from_nodes(self, nodes: Float[Tensor, "batch step node band"], batch: Batch) -> TeacherSignal:
        """Answers for windows whose nodes are known."""
        features = nodes.flatten(0, 1)
        valid = batch.valid["eeg"].flatten(0, 1)[..., None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            features = F.gelu(norm(convolution(features, self.adjacency))) * valid
            features = F.dropout(features, self.dropout, self.training)
        return self.heads(self.readout(features).unflatten(0, nodes.shape[:2]), self.heard(batch))

    def _entropies(self, batch: Batch) -> Tensor:
        return differential_entropy(batch.signals["eeg"], self.layout.sfreq, self.bands)
