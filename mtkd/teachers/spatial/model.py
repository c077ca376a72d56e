"""The spatial teacher: a graph network over the electrodes of a trial."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mtkd.config import Spatial
from mtkd.layers.heads import Heads, TeacherSignal
from mtkd.layers.standardize import Standardize
from mtkd.shards.batch import Batch
from mtkd.shards.schema import Layout
from mtkd.teachers.spatial.convolution import make_convolution, weights_keyword
from mtkd.teachers.spatial.features import Covariances, make_features
from mtkd.teachers.spatial.graph import electrode_positions, join, nearness


class SpatialTeacher(nn.Module):
    """Answers for windows from the EEG alone, each window by itself.

    Its nodes are the electrodes that are valid in a window, and no others. Edges join all of them. Their weight is the
    nearness on the montage plus a learned symmetric part, cut off at zero. The readout has a linear map for each
    electrode of ``layout``, of its features and of what the convolutions made of them (jumping knowledge; Xu et al.,
    ICML 2018), and adds up those of the electrodes there are, so that what else ``layout`` holds does not matter to
    them.
    """

    near: Tensor

    def __init__(self, settings: Spatial, layout: Layout, n_classes: int) -> None:
        super().__init__()
        n_chans, width = len(layout.ch_names), settings.width
        self.layout = layout
        self.features = make_features(settings, n_chans, layout.sfreq)
        self.scale = Standardize((n_chans, self.features.n_features))
        self.register_buffer("near", nearness(electrode_positions(layout.ch_names), settings.sigma_m))
        self.learned = nn.Parameter(torch.zeros(n_chans, n_chans), requires_grad=settings.learned_adjacency)
        self.convolutions, self.norms, n_out = nn.ModuleList(), nn.ModuleList(), self.features.n_features
        for _ in range(settings.layers):
            convolution, n_out = make_convolution(settings, n_out)
            self.convolutions.append(convolution)
            self.norms.append(nn.LayerNorm(n_out))
        self.keyword = weights_keyword(type(self.convolutions[0]))
        self.n_out, self.dropout = n_out, settings.dropout
        n_read = n_chans * (self.features.n_features + n_out)
        self.readout = nn.Sequential(
            nn.Flatten(1), nn.Dropout(settings.dropout), nn.Linear(n_read, 2 * width), nn.GELU()
        )
        self.heads = Heads(2 * width, n_classes, settings.dropout, confidence=settings.confidence_weight > 0)

    @property
    def adjacency(self) -> Float[Tensor, "node node"]:
        """Weights of the edges: symmetric, not negative, zero on the diagonal."""
        symmetric = self.near + (self.learned + self.learned.T) / 2
        return symmetric.relu() * (1 - torch.eye(len(symmetric), device=symmetric.device))

    @torch.no_grad()
    def fit_statistics(self, batches: Callable[[], Iterable[Batch]], total: Callable[[Tensor], Tensor]) -> None:
        """Fit the scale of the features, as they are before training, on training trials; a covariance's mean first."""
        if isinstance(self.features, Covariances):
            for batch in batches():
                self.features.reference.update(batch.signals["eeg"][batch.steps], batch.valid["eeg"][batch.steps])
            self.features.reference.finish(total)
        for batch in batches():
            signal, valid = batch.signals["eeg"][batch.steps], batch.valid["eeg"][batch.steps]
            self.scale.update(self.features(signal, valid), self.features.known(valid))
        self.scale.finish(total)

    def forward(self, batch: Batch) -> TeacherSignal:
        """Answers for all windows of the trials."""
        return self.from_nodes(self.nodes(batch), batch)

    def nodes(self, batch: Batch) -> Float[Tensor, "batch step node feature"]:
        """Standardised features, 0 where an electrode is not valid."""
        valid = batch.valid["eeg"]
        return self.scale(self.features(batch.signals["eeg"], valid)) * self.features.known(valid)

    def heard(self, batch: Batch) -> Bool[Tensor, "batch step"]:
        """The windows that ``forward`` has an answer for."""
        return batch.present("eeg")

    def from_nodes(self, nodes: Float[Tensor, "batch step node feature"], batch: Batch) -> TeacherSignal:
        """Answers for windows whose nodes are known."""
        present = batch.valid["eeg"].flatten(0, 1)
        found = torch.cat([nodes.flatten(0, 1), self._convolve(nodes.flatten(0, 1), present)], dim=-1)
        return self.heads(self.readout(found).unflatten(0, nodes.shape[:2]), self.heard(batch))

    def _convolve(
        self, nodes: Float[Tensor, "graph node feature"], present: Bool[Tensor, "graph node"]
    ) -> Float[Tensor, "graph node out"]:
        if not present.any():  # not every convolution takes a graph without nodes
            return nodes.new_zeros(*present.shape, self.n_out)
        graphs = join(self.adjacency, present, self.keyword)
        rows = graphs.rows(nodes)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            rows = F.gelu(norm(convolution(rows, **graphs.edges)))
            rows = F.dropout(rows, self.dropout, self.training)
        return graphs.nodes(rows)
