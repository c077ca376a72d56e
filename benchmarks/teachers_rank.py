"""One process of ``teachers.py``: trains the temporal teacher and tells its rate. Not a benchmark by itself.

``python benchmarks/teachers_rank.py WHAT FOLDER LAYERS``, or the same under ``accelerate launch``. WHAT is ``ours``,
``zero2``, or ``trainer``: transformers' own loop over the same teacher, whose trials lie under each other, padded.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtkd.config import Modality, Study
from mtkd.layers.heads import TeacherSignal
from mtkd.shards.batch import Batch, Cutter, layouts
from mtkd.shards.index import write_index
from mtkd.shards.read import ShardSet
from mtkd.shards.schema import encode
from mtkd.shards.write import write_shard
from mtkd.signals.preprocess import Signal
from mtkd.signals.recording import Span
from mtkd.signals.splits import Fold
from mtkd.study import read_study
from mtkd.teachers.temporal import train as temporal
from mtkd.teachers.temporal.examine import plain
from mtkd.teachers.temporal.model import TemporalTeacher
from mtkd.teachers.temporal.unpack import unpack
from mtkd.training.fit import fit
from mtkd.training.fold import FoldData, quiet_libraries
from mtkd.training.objective import Supervised
from mtkd.training.runtime import Runtime
from mtkd.workspace import Unit

ROOT = Path(__file__).resolve().parent.parent
CHANNELS: dict[Modality, tuple[int, float]] = {
    "eeg": (32, 128.0),
    "ecg": (3, 128.0),
    "eda": (1, 16.0),
    "resp": (1, 16.0),
}
LENGTHS_S = {"mahnob": (34.9, 117.0), "deap": (60.0, 60.0)}
N_TRIALS, N_VAL, EPOCHS = 48, 1, (1, 3)


def study_of(folder: Path, layers: int) -> Study:
    """The study of MAHNOB-HCI as it is shipped, in patches of a second."""
    given = [f"workspace={folder}", "temporal.patch_s=1", f"temporal.layers={layers}", "temporal.max_tokens=4096"]
    return read_study(ROOT / "configs/study/mahnob.yaml", given)


def write_trials(folder: Path, lengths: str, n_trials: int = N_TRIALS) -> None:
    """Noise of as many channels as MAHNOB-HCI has, in trials of a data set's lengths."""
    random, (low, high) = np.random.default_rng(0), LENGTHS_S[lengths]
    samples = []
    for index in range(n_trials + N_VAL):
        n_secs = int(random.uniform(low, high)) if index < n_trials else 6
        signals = {
            name: Signal(
                random.standard_normal((n_chans, round(n_secs * sfreq))).astype(np.float32),
                np.ones((n_chans, n_secs), bool),
                sfreq,
                [f"{name}{channel}" for channel in range(n_chans)],
            )
            for name, (n_chans, sfreq) in CHANNELS.items()
        }
        ratings = {name: float(random.uniform(1, 9)) for name in ("valence", "arousal")}
        subject = "train" if index < n_trials else "val"
        samples.append(encode(subject, Span(f"t{index:03d}", "x", 0.0, float(n_secs), ratings), signals))
    folder.mkdir(parents=True)
    write_index(folder, {"all.tar": write_shard(folder / "all.tar", samples)})


def data_of(study: Study, folder: Path) -> FoldData:
    """Those trials as a fold of which one subject is trained on."""
    shards = ShardSet(folder)
    known = layouts(shards.index.samples, study.temporal.modalities)
    cutter = Cutter(shards, known, temporal.patches(study), study.labels)
    return FoldData(Unit("shards", folder, {}), Fold(0, ["train"], ["val"], []), cutter)


def teacher_of(
    study: Study, data: FoldData, kind: type[TemporalTeacher] = TemporalTeacher, backbone: Unit | None = None
) -> TemporalTeacher:
    """An untrained one, of the study's backbone or of another."""
    quiet_libraries()
    torch.manual_seed(0)
    return kind(study.temporal, study.windows, data.cutter.layouts, study.n_classes, backbone or unpack(study))


def n_tokens(study: Study, data: FoldData, model: TemporalTeacher) -> int:
    """Of all training trials."""
    samples = [data.cutter.shards.samples[key] for key in data.keys(["train"])]
    return sum(model.n_tokens(sample, data.cutter.n_steps(sample)) for sample in samples)


def ours(study: Study, data: FoldData, deepspeed: str | None) -> Callable[[int], None]:
    """Our loop for so many epochs."""
    optim = study.temporal.optim
    runtime = Runtime(optim, deepspeed)

    def run(epochs: int) -> None:
        model = teacher_of(study, data)
        train, val = temporal.loaders(study, data, model, runtime)
        fit(
            model,
            Supervised(torch.ones(study.n_classes), 1.0, 0.5),
            train,
            val,
            optim.model_copy(update={"epochs": epochs}),
            runtime,
        )

    return run


class Padded(TemporalTeacher):
    """The teacher without packing: every step of every modality is a token, masked where nothing is there."""

    def __init__(self, settings: Any, *args: Any) -> None:
        super().__init__(settings, *args)
        self.backbone.model.base_model.model.set_attn_implementation("sdpa")
        self.objective = Supervised(torch.ones(4), 1.0, 0.5)

    def forward(self, batch: Batch) -> Any:
        """A loss for the Trainer, of the same terms."""
        shape = batch.steps.shape
        embedded = [
            self.encoders[name](batch.signals[name].flatten(0, 1), batch.valid[name].flatten(0, 1)).unflatten(0, shape)
            + self.kinds[index]
            for index, name in enumerate(self.modalities)
        ]
        tokens = self.drop(torch.stack(embedded, dim=2)).flatten(1, 2)
        present = self._present(batch)
        hidden = plain(self.backbone.model, tokens, attention_mask=present.flatten(1, 2).long())
        steps = hidden.unflatten(1, present.shape[1:])[:, self._last(batch)]
        heard = present[:, self._last(batch)]
        signal = self.heads(
            self.norm((steps * heard[..., None]).sum(2) / heard.sum(2, keepdim=True).clamp_min(1)), heard.any(2)
        )
        return {"loss": self._loss(signal, batch)}

    def _loss(self, signal: TeacherSignal, batch: Batch) -> Tensor:
        terms = self.objective(lambda _: signal, batch).values()
        return torch.stack([term.weight * term.value[term.mask].mean() for term in terms]).sum()


def trainer(study: Study, data: FoldData, folder: Path) -> Callable[[int], None]:
    """The same with transformers' Trainer."""
    import transformers

    optim = study.temporal.optim

    def run(epochs: int) -> None:
        arguments = transformers.TrainingArguments(
            output_dir=str(folder / "trainer"),
            num_train_epochs=epochs,
            per_device_train_batch_size=optim.batch_size,
            learning_rate=optim.lr,
            weight_decay=optim.weight_decay,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        transformers.Trainer(
            model=teacher_of(study, data, Padded),
            args=arguments,
            train_dataset=[{"key": key} for key in data.keys(["train"])],  # type: ignore[arg-type]
            data_collator=lambda rows: {"batch": data.cutter.batch([row["key"] for row in rows])},
        ).train()

    return run


def main() -> None:
    """Tell tokens a second of the epochs after the first, on the first rank.

    Each length of training at its best: of two single times the difference would flatter where the short one was held
    up.
    """
    what, folder, layers = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    study = study_of(folder, layers)
    data = data_of(study, folder / "mahnob")
    deepspeed = str(ROOT / "configs/deepspeed/zero2.json") if what == "zero2" else None
    run = trainer(study, data, folder) if what == "trainer" else ours(study, data, deepspeed)
    best = dict.fromkeys(EPOCHS, float("inf"))
    for _ in range(2):
        for epochs in EPOCHS:
            started = time.perf_counter()
            run(epochs)
            best[epochs] = min(best[epochs], time.perf_counter() - started)
    seconds = (best[EPOCHS[1]] - best[EPOCHS[0]]) / (EPOCHS[1] - EPOCHS[0])
    tokens = n_tokens(study, data, teacher_of(study, data))
    if torch.distributed.is_initialized() and torch.distributed.get_rank():
        return
    print(json.dumps({"tokens_a_second": tokens / seconds, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
