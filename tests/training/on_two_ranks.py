"""What one rank does in ``test_two_ranks``: steps of which the outcome is known, told as JSON. Not a test by itself."""

import gc
import sys
import weakref
from pathlib import Path

import safetensors
import torch
from torch import Tensor, nn

from mtkd.config import Optim
from mtkd.errors import MtkdError
from mtkd.files import write_json
from mtkd.teachers.temporal.weights import WEIGHTS, read_weights
from mtkd.training.fit import _Meter, trained_state
from mtkd.training.objective import Term
from mtkd.training.runtime import Runtime
from mtkd.training.zero import size_of, whole

CLIP = 10.0
WINDOWS = torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.0, 1.0], [1.0, 1.0, 1.0], [4.0, -1.0, 5.0]])
models = weakref.WeakSet[nn.Module]()
SHARES = ([0, 1, 2], [3])  # of the windows over the ranks: unequal, so that a mean of means would be seen


def moved(runtime: Runtime, scale: float, n_parts: int = 1) -> Tensor:
    """By how much plain gradient descent with rate 1 moves weights whose loss is the mean of weight times window.

    In parts, every rank has its windows one after another, and some parts without any.
    """
    model = nn.Linear(3, 1, bias=False)
    models.add(model)
    engine, optimizer = runtime.prepare(model, torch.optim.SGD(model.parameters(), lr=1.0))
    before = trained_state(runtime.unwrap(engine))["weight"]
    masks = []
    for part in range(n_parts):
        mask = torch.zeros(1, 4, dtype=torch.bool)
        mask[0, SHARES[runtime.rank][part::n_parts]] = True
        masks.append(mask.to(runtime.device))
    meter = _Meter(runtime)
    counts = meter.count([{"a": mask} for mask in masks])
    for mask in masks:
        values = engine(scale * WINDOWS.to(runtime.device)).T
        runtime.backward(meter.loss({"a": Term(values, mask, 1.0)}, counts), last=mask is masks[-1])
    runtime.step(engine, optimizer)
    after = trained_state(runtime.unwrap(engine))["weight"]
    runtime.release()
    return (before - after)[0]


def refusal(runtime: Runtime) -> str:
    try:
        runtime.agree(runtime.rank, "the weather")
    except MtkdError as error:
        return str(error)
    return ""


def kept(runtime: Runtime, backbone: Path) -> dict[str, int | bool]:
    """How many of a backbone's weights this rank keeps, and whether all ranks together keep the right ones."""
    model = read_weights(backbone, torch.float32, runtime.parting)
    parameters = dict(model.named_parameters())
    here = sum(getattr(each, "ds_tensor", each).numel() for each in parameters.values())
    counted = sum(map(size_of, parameters.values()))
    with whole(parameters.values()), safetensors.safe_open(backbone / WEIGHTS, "pt") as stored:
        right = all(torch.equal(each, stored.get_tensor(name)) for name, each in parameters.items())
        n_whole = sum(each.numel() for each in parameters.values())
        return {"here": here, "counted": counted, "whole": n_whole, "right": right}


def left() -> int:
    """Models of trainings that are over, and are still held by something."""
    gc.collect()
    return len(models)


if __name__ == "__main__":
    folder, deepspeed, backbone = sys.argv[1:]
    runtime = Runtime(Optim(batch_size=2, grad_clip=CLIP), deepspeed)
    runtime.agree("fair", "the weather")
    told = {
        "engine": runtime.engine,
        "total": runtime.total(torch.tensor([1.0, 10.0]) * (runtime.rank + 1)).tolist(),
        "small": moved(runtime, 1.0).tolist(),
        "large": moved(runtime, 100.0).tolist(),
        "in parts": moved(runtime, 1.0, n_parts=3).tolist(),
        "left": left(),
        "kept": kept(runtime, Path(backbone)),
        "from_first": runtime.from_first(f"rank {runtime.rank}"),
        "refusal": refusal(runtime),
    }
    write_json(Path(folder) / f"{runtime.rank}.json", told)
