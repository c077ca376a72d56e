"""A toy study: windows whose class is the level of their one channel."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtkd.config import Windows
from mtkd.layers.heads import Heads, TeacherSignal
from mtkd.shards.batch import Batch, Cutter, layouts
from mtkd.shards.index import write_index
from mtkd.shards.read import ShardSet
from mtkd.shards.schema import encode
from mtkd.shards.write import write_shard
from mtkd.signals.preprocess import Signal
from mtkd.signals.recording import Span

SFREQ = 4.0


class Level(nn.Module):
    """Two classes from the mean of each window."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = Heads(2, 2, 0.0)

    def forward(self, batch: Batch) -> TeacherSignal:
        level = batch.signals["eda"].mean((-1, -2))
        return self.heads(torch.stack([level, torch.ones_like(level)], dim=-1), self.heard(batch))

    def heard(self, batch: Batch) -> Tensor:
        return batch.present("eda")


@pytest.fixture
def level() -> Level:
    torch.manual_seed(0)
    return Level()


@pytest.fixture
def make_cutter(tmp_path: Path) -> Callable[..., Cutter]:
    """A cutter over trials of different lengths: ``make_cutter(noise=0.5, flip="s3", unrated=["s1_t00"])``."""

    def make(n_trials: int = 7, noise: float = 0.5, flip: str = "", unrated: tuple[str, ...] = ()) -> Cutter:
        random = np.random.default_rng(0)
        shards = {}
        for subject in ("s1", "s2", "s3"):
            samples = []
            for index in range(n_trials):
                high = bool(index % 2)
                n_secs = int(random.integers(2, 9))
                level = (1.0 if high else -1.0) * (-1 if subject == flip else 1)
                data = level + noise * random.normal(size=(1, round(n_secs * SFREQ)))
                signal = Signal(data.astype(np.float32), np.ones((1, n_secs), bool), SFREQ, ["GSR"])
                name = f"t{index:02d}"
                ratings = {} if f"{subject}_{name}" in unrated else {"valence": 9.0 if high else 1.0}
                samples.append(encode(subject, Span(name, name, 0.0, float(n_secs), ratings), {"eda": signal}))
            (tmp_path / "shards").mkdir(exist_ok=True)
            shards[f"{subject}.tar"] = write_shard(tmp_path / "shards" / f"{subject}.tar", samples)
        write_index(tmp_path / "shards", shards)
        opened = ShardSet(tmp_path / "shards")
        windows = Windows(window_s=1.0, hop_s=1.0)
        return Cutter(opened, layouts(opened.index.samples, ["eda"]), windows, {"valence": 5.0})

    return make
