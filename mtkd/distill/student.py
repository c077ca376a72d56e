"""The student: peripheral modalities only, any subset of them, window by window with a state."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mtkd.config import Distill, Modality
from mtkd.layers.encoder import WindowEncoder, fit_scales
from mtkd.layers.heads import Heads, TeacherSignal
from mtkd.shards.batch import Batch
from mtkd.shards.schema import Layout

State = Float[Tensor, "1 batch width"]


class Projection(nn.Module):
    """Student's features in the space of a teacher's, of which each of the ``n_trainings`` of it has its own."""

    def __init__(self, width: int, n_features: int, n_trainings: int) -> None:
        super().__init__()
        self.spaces = nn.ModuleList(nn.Linear(width, n_features) for _ in range(n_trainings))

    def forward(
        self, features: Float[Tensor, "batch step width"], asked: Sequence[int]
    ) -> Float[Tensor, "batch step feature"]:
        """In the space of the training that each trial's teacher is of."""
        if len(self.spaces) == 1:
            return self.spaces[0](features)
        rows = {number: [row for row, own in enumerate(asked) if own == number] for number in set(asked)}
        found = torch.cat([self.spaces[number](features[own]) for number, own in rows.items()])
        order = torch.tensor([row for own in rows.values() for row in own], device=features.device)
        return found[order.argsort()]


class Student(nn.Module):
    """One encoder a modality, fused with learned stand-ins for those that are missing; a recurrent state over windows;
    heads for class and confidence.

    ``projections`` carry its features into each teacher's space for the hint; they are not needed in use.

    Args:
        settings: the ``distill`` section.
        layouts: channels and rates of its modalities.
        window_s: length of a window, seconds.
        n_classes: of the class head.
        teacher_features: size of each teacher's features, by name.
        n_trainings: of each teacher that it hears, one but for cross-fitting.
    """

    def __init__(
        self,
        settings: Distill,
        layouts: Mapping[Modality, Layout],
        window_s: float,
        n_classes: int,
        teacher_features: Mapping[str, int],
        n_trainings: int = 1,
    ) -> None:
        super().__init__()
        width = settings.width
        self.modalities = [name for name in settings.modalities if name in layouts]
        self.modality_dropout = settings.modality_dropout
        self.encoders = nn.ModuleDict(
            {
                name: WindowEncoder(name, layouts[name], window_s, width, 2 * width, dropout=settings.input_dropout)
                for name in self.modalities
            }
        )
        self.missing = nn.Parameter(torch.zeros(len(self.modalities), 2 * width))
        self.fuse = nn.Sequential(
            nn.Linear(2 * width * len(self.modalities), 2 * width), nn.GELU(), nn.Dropout(settings.dropout)
        )
        self.memory = nn.GRU(2 * width, 2 * width, batch_first=True)
        self.heads = Heads(2 * width, n_classes, settings.dropout, confidence=settings.confidence_weight > 0)
        self.projections = nn.ModuleDict(
            {name: Projection(2 * width, n_features, n_trainings) for name, n_features in teacher_features.items()}
        )

    @property
    def n_parameters(self) -> int:
        """Of what is used after training, which the projections are not."""
        own = (value for name, value in self.named_parameters() if not name.startswith("projections."))
        return sum(value.numel() for value in own)

    def fit_statistics(self, batches: Callable[[], Iterable[Batch]], total: Callable[[Tensor], Tensor]) -> None:
        """Fit the encoders' scales on training trials."""
        fit_scales(cast(dict[Modality, WindowEncoder], dict(self.encoders.items())), batches, total)

    def forward(self, batch: Batch) -> TeacherSignal:
        """Answers for all windows of the trials, each from its own window and those before it."""
        return self.step(batch, None)[0]

    def step(self, batch: Batch, state: State | None) -> tuple[TeacherSignal, State]:
        """Answers for the next windows of running recordings, and the state to go on from. ``None`` starts anew.

        A whole trial at once and its windows one by one give the same answers.
        """
        encoded, present = self._encode(batch), self._present(batch)
        return self._answer(encoded, self._drop(present), present.any(-1), state)

    def on_subsets(self, batch: Batch) -> Iterator[tuple[tuple[Modality, ...], TeacherSignal]]:
        """Answers from each subset of its modalities as though it had no others, the smallest first.

        The modalities are encoded once, which is nearly all of the work.
        """
        encoded, present = self._encode(batch), self._present(batch)
        for size in range(1, len(self.modalities) + 1):
            for chosen in itertools.combinations(self.modalities, size):
                kept = present & torch.tensor([name in chosen for name in self.modalities], device=present.device)
                yield chosen, self._answer(encoded, kept, kept.any(-1), None)[0]

    def heard(self, batch: Batch) -> Bool[Tensor, "batch step"]:
        """The windows that ``forward`` has an answer for."""
        return self._present(batch).any(-1)

    def _present(self, batch: Batch) -> Bool[Tensor, "batch step modality"]:
        return torch.stack([batch.present(name) for name in self.modalities], dim=-1)

    def _encode(self, batch: Batch) -> Float[Tensor, "batch step modality feature"]:
        vectors = []
        for name in self.modalities:
            signal, valid = batch.signals[name], batch.valid[name]
            encoded = self.encoders[name](signal.flatten(0, 1), valid.flatten(0, 1))
            vectors.append(encoded.unflatten(0, signal.shape[:2]))
        return torch.stack(vectors, dim=2)

    def _answer(
        self,
        encoded: Float[Tensor, "batch step modality feature"],
        present: Bool[Tensor, "batch step modality"],
        heard: Bool[Tensor, "batch step"],
        state: State | None,
    ) -> tuple[TeacherSignal, State]:
        fused = self.fuse(torch.where(present[..., None], encoded, self.missing).flatten(2))
        features, state = self.memory(fused, state)
        return self.heads(features + fused, heard), state

    def _drop(self, present: Bool[Tensor, "batch step modality"]) -> Bool[Tensor, "batch step modality"]:
        """In training, take whole modalities away from whole trials at random, but never the last one."""
        if not self.training or self.modality_dropout == 0:
            return present
        kept = torch.rand(len(present), 1, present.shape[-1], device=present.device) >= self.modality_dropout
        left = present & kept
        return torch.where(left.any(-1, keepdim=True), left, present)
