"""The training loop, of teachers and student alike."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mtkd.config import Optim
from mtkd.errors import Diverged, MtkdError
from mtkd.shards.batch import Batch
from mtkd.shards.loader import Loader
from mtkd.training.objective import Term
from mtkd.training.runtime import Runtime

Objective = Callable[[nn.Module, Batch], dict[str, Term]]
Watch = Callable[[int, dict[str, float]], None]


@dataclass
class History:
    """Means of every term for each epoch, ``train/NAME`` and ``val/NAME``, and the best epoch (from 1)."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0
    n_parameters: int = 0

    @property
    def best(self) -> dict[str, float]:
        """The best epoch's measurements."""
        return self.epochs[self.best_epoch - 1]


def fit(
    model: nn.Module,
    objective: Objective,
    train: Loader,
    val: Loader,
    optim: Optim,
    runtime: Runtime,
    watch: Watch | None = None,
) -> History:
    """Train until the validation subjects' class loss stops falling; leave the best epoch's weights in ``model``.

    ``watch`` is told every epoch's measurements and may raise to stop. Gradients are the mean over the windows of the
    global batch, whatever the number of ranks.

    Raises:
        Diverged: the loss became NaN or infinite.
        MtkdError: no validation window has a label and a signal.
    """
    started = time.perf_counter()
    model.to(runtime.device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    history = History(n_parameters=sum(parameter.numel() for parameter in trained))
    optimizer = torch.optim.AdamW(trained, lr=optim.lr, weight_decay=optim.weight_decay)
    engine, optimizer = runtime.prepare(model, optimizer)
    n_steps, step, best_state = optim.epochs * len(train), 0, {}
    for epoch in range(optim.epochs):
        train.set_epoch(epoch)
        engine.train()
        meter = _Meter(runtime)
        for batch in train:
            for group in optimizer.param_groups:
                group["lr"] = optim.lr * _schedule(step, n_steps, optim.warmup)
            runtime.step(engine, optimizer, meter.loss(objective(engine, batch.to(runtime.device))))
            step += 1
        means = {f"train/{name}": value for name, value in meter.means().items()}
        means |= {f"val/{name}": value for name, value in _validate(engine, objective, val, runtime).items()}
        history.epochs.append(means)
        _refuse_nan(means, epoch)
        if history.best_epoch == 0 or means["val/class"] < history.best["val/class"]:
            history.best_epoch = epoch + 1
            best_state = trained_state(runtime.unwrap(engine))
        if watch is not None:
            watch(epoch, means)
        if epoch + 1 - history.best_epoch >= optim.patience:
            break
    runtime.release()
    model.load_state_dict(best_state, strict=False)
    history.seconds = round(time.perf_counter() - started, 2)
    return history


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Copies of what training changes: trainable parameters and buffers. The frozen backbone is not among them."""
    wanted = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    wanted |= {name for name, _ in model.named_buffers()}
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items() if name in wanted}


@torch.no_grad()
def _validate(engine: nn.Module, objective: Objective, val: Loader, runtime: Runtime) -> dict[str, float]:
    engine.eval()
    meter = _Meter(runtime)
    for batch in val:
        meter.loss(objective(engine, batch.to(runtime.device)))
    return meter.means()


class _Meter:
    """Sums of every term over an epoch, kept on the device: nothing is read back before the epoch ends."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.names: list[str] = []
        self.sums: Tensor | None = None

    def loss(self, terms: dict[str, Term]) -> Tensor:
        """The weighted sum of the terms' means over the global batch; its gradient averages rightly over ranks."""
        self.names = list(terms)
        counts = torch.stack([term.mask.sum() for term in terms.values()]).float()
        own = torch.stack([(term.value.float() * term.mask).sum() for term in terms.values()])
        both = self.runtime.total(torch.stack([own.detach(), counts]))
        self.sums = both if self.sums is None else self.sums + both
        weights = torch.tensor([term.weight for term in terms.values()], device=own.device)
        return (weights * own / both[1].clamp_min(1)).sum() * self.runtime.world

    def means(self) -> dict[str, float]:
        """Mean of every term over what it counted; NaN where nothing counted is left out."""
        assert self.sums is not None
        values, counts = self.sums.tolist()
        pairs = zip(self.names, values, counts, strict=True)
        return {name: value / count for name, value, count in pairs if count}


def _schedule(step: int, n_steps: int, warmup: float) -> float:
    """Linear warm-up over the first share of the steps, then half a cosine down to zero."""
    rise = max(1.0, warmup * n_steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, n_steps - rise)))


def _refuse_nan(means: dict[str, float], epoch: int) -> None:
    for name, value in means.items():
        if not math.isfinite(value):
            raise Diverged(f"{name} became {value} in epoch {epoch + 1}; lower the learning rate or look at the data")
    if "val/class" not in means:
        raise MtkdError("no validation window has both a label and a signal, so no epoch can be chosen")
