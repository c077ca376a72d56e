"""A temporal teacher of seven thousand million weights on one GPU: ``python benchmarks/teachers_gpu.py [--json F]``.

The backbone's weights are random, of Mistral 7B's shape, bfloat16 and frozen, with LoRA; trials are noise of
MAHNOB-HCI's lengths. A token costs four operations for each weight in a product, two forward and two back, as frozen
weights have no gradients; attention's scores, adapters and encoders are not counted. It takes 15 GB of disk, 40 of
memory and a GPU of 80.
"""

import itertools
import statistics
import tempfile
import time
from pathlib import Path

import torch
from rows import Rows, finish, parser
from teachers_memory import write_backbone
from teachers_rank import data_of, n_tokens, study_of, teacher_of, write_trials

from mtkd.config import Study
from mtkd.teachers.temporal import train as temporal
from mtkd.teachers.temporal.model import TemporalTeacher
from mtkd.training.fit import fit
from mtkd.training.fold import FoldData
from mtkd.training.objective import Supervised
from mtkd.training.runtime import Runtime

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CHANGES = {"dtype": "bfloat16", "compile": True, "max_tokens": 8192}
N_TRIALS, BATCH, EPOCHS, WARM = 192, 24, 6, 2
SIZE = 8192  # of the square matrices whose product is the ceiling


def ceiling(size: int, n: int = 20) -> float:
    """Operations a second of a product of two square matrices in bfloat16, the median of many."""
    left, right = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    taken = []
    for _ in range(n + 3):
        wait()
        started = time.perf_counter()
        left @ right
        wait()
        taken.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(taken[3:])


def wait() -> None:
    """Until the GPU has done what it was given."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def rate(study: Study, data: FoldData, model: TemporalTeacher) -> float:
    """Trained tokens a second of our loop, validation of a trial included, the median of the epochs that are warm."""
    ends: list[float] = []
    runtime = Runtime(study.temporal.optim)
    train, val = temporal.loaders(study, data, model, runtime)
    objective = Supervised(torch.ones(study.n_classes), 1.0, 0.5)
    fit(model, objective, train, val, study.temporal.optim, runtime, lambda *_: ends.append(time.perf_counter()))
    taken = [after - before for before, after in itertools.pairwise(ends)]
    return n_tokens(study, data, model) / statistics.median(taken[WARM - 1 :])


def n_multiplied(model: TemporalTeacher) -> int:
    """Numbers in the frozen matrices, each of which meets every token."""
    frozen = [each for each in model.backbone.model.parameters() if not each.requires_grad and each.ndim == 2]
    return sum(each.numel() for each in frozen)


def study_for(folder: Path) -> Study:
    """MAHNOB-HCI's, changed to what a GPU is for."""
    study = study_of(folder, 32)
    optim = study.temporal.optim.model_copy(update={"batch_size": BATCH, "epochs": EPOCHS, "patience": EPOCHS})
    return study.model_copy(update={"temporal": study.temporal.model_copy(update=CHANGES | {"optim": optim})})


def main() -> None:
    """Measure and tell."""
    given = parser(__doc__).parse_args()
    rows = Rows()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_trials(folder / "mahnob", "mahnob", N_TRIALS)
        study, unit = study_for(folder), write_backbone(folder, "7 B")
        data = data_of(study, folder / "mahnob")
        model = teacher_of(study, data, backbone=unit)
        model.backbone.compile_layers()
        most, tokens = ceiling(SIZE), rate(study, data, model)
        reached = 4 * n_multiplied(model) * tokens
        told = f"{tokens:.0f} tokens/s, {reached / 1e12:.0f} of {most / 1e12:.0f} TFLOP/s, "
        told += f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB, " if DEVICE == "cuda" else ""
        told += torch.cuda.get_device_name() if DEVICE == "cuda" else "no GPU"
        rows.at_least("7 B with LoRA, of the matrix product's rate", reached / most, 0.5, told)
    finish("teachers_gpu.py", rows, given.json)


if __name__ == "__main__":
    main()
