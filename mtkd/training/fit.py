"""The training loop, of teachers and student alike."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mtkd.config import Optim
from mtkd.errors import Diverged, MtkdError
from mtkd.shards.batch import Batch
from mtkd.shards.loader import Loader
from mtkd.training.objective import Objective, Term
from mtkd.training.resume import Checkpoint, Checkpoints
from mtkd.training.runtime import Runtime
from mtkd.training.zero import size_of, whole

Watch = Callable[[int, dict[str, float]], None]


@dataclass
class History:
    """Means of every term for each epoch, ``train/NAME`` and ``val/NAME``, and the epoch that is kept (from 1)."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0
    n_parameters: int = 0

    @property
    def best(self) -> dict[str, float]:
        """The measurements of the epoch that is kept."""
        return self.epochs[self.best_epoch - 1]


def fit(
    model: nn.Module,
    objective: Objective,
    train: Loader,
    val: Loader,
    optim: Optim,
    runtime: Runtime,
    watch: Watch | None = None,
    checkpoints: Checkpoints | None = None,
) -> History:
    """Train until the validation subjects' class loss stops falling; leave the best epoch's weights in ``model``, or,
    where ``keep`` says so, train all epochs and leave the last one's.

    ``watch`` is told every epoch's measurements and may raise to stop. Gradients are the mean over the windows of the
    global batch, whatever the number of ranks and of the pieces in which each computes its share. With ``checkpoints``
    it goes on from the last of them.

    Raises:
        Diverged: the loss became NaN or infinite.
        MtkdError: no validation window has a label and a signal.
    """
    training = _Training(model, objective, train, val, optim, runtime, checkpoints)
    for epoch, means in training.epochs():
        if watch is not None:
            watch(epoch, means)
    return training.finish()


class _Training:
    """One training, where it stands: epoch, step, loader, sums over the epoch, best weights so far."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        train: Loader,
        val: Loader,
        optim: Optim,
        runtime: Runtime,
        checkpoints: Checkpoints | None,
    ) -> None:
        self.model, self.objective, self.train, self.val = model.to(runtime.device), objective, train, val
        self.optim, self.runtime, self.checkpoints = optim, runtime, checkpoints
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.history = History(n_parameters=sum(map(size_of, trained)))
        self.epoch, self.step, self.best_state = 0, 0, dict[str, Tensor]()
        self.meter, self._started = _Meter(runtime), time.perf_counter()
        found = checkpoints.latest() if checkpoints else None
        if found is not None:
            put_state(model, found.shared["weights"])
        optimizer = torch.optim.AdamW(trained, lr=optim.lr, weight_decay=optim.weight_decay)
        self.engine, self.optimizer = runtime.prepare(model, optimizer)
        if found is not None:
            self._restore(found)

    def epochs(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Each epoch's measurements, until the last or until patience is over."""
        while self.epoch < self.optim.epochs:
            self._train_epoch()
            means = {f"train/{name}": value for name, value in self.meter.means().items()}
            means |= {f"val/{name}": value for name, value in self._validate().items()}
            self.history.epochs.append(means)
            _refuse_nan(means, self.epoch)
            self._refuse_unjudged(means)
            if self._is_best(means):
                self.history.best_epoch = self.epoch + 1
                self.best_state = trained_state(self.runtime.unwrap(self.engine))
            yield self.epoch, means
            self.epoch += 1
            self.meter = _Meter(self.runtime)
            self.train.set_epoch(self.epoch)
            if self.optim.keep == "best" and self.epoch - self.history.best_epoch >= self.optim.patience:
                break

    def _is_best(self, means: dict[str, float]) -> bool:
        """Whether this epoch is to be kept, as far as is known; patience is over where none was for long."""
        if self.optim.keep == "last":
            return self.epoch + 1 == self.optim.epochs
        return self.history.best_epoch == 0 or means["val/class"] < self.history.best["val/class"]

    def _refuse_unjudged(self, means: dict[str, float]) -> None:
        if "val/class" not in means:
            samples = self.val.cutter.shards.samples
            whose = ", ".join(sorted({samples[key].subject for key in self.val.keys}))
            told = f"no window of the validation subjects ({whose}) has both a label and a signal"
            raise MtkdError(f"{told}, so no epoch can be chosen")

    def finish(self) -> History:
        """Put the best weights into the model."""
        put_state(self.runtime.unwrap(self.engine), self.best_state)
        self.runtime.release()
        self.history.seconds = round(self.history.seconds + time.perf_counter() - self._started, 2)
        return self.history

    def _train_epoch(self) -> None:
        """What is left of it. Its end is kept before anything is made of it."""
        self.engine.train()
        n_steps = self.optim.epochs * len(self.train)
        for share in self.train.shares():
            for group in self.optimizer.param_groups:
                group["lr"] = self.optim.lr * _schedule(self.step, n_steps, self.optim.warmup)
            for batch, last, loss in self._losses(share, self.meter):
                self.runtime.backward(loss, last)
                self.meter.note(loss, batch.keys, "the loss")
            norm = self.runtime.step(self.engine, self.optimizer)
            self.meter.note(norm, [key for batch in share for key in batch.keys], "the gradient's norm")
            self.step += 1
            is_due = self.train.is_through or (self.checkpoints is not None and self.checkpoints.is_due(self.step))
            self.meter.refuse_nan(self.epoch, now=is_due)
            if is_due and self.checkpoints is not None:
                self._save(self.checkpoints)

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        self.engine.eval()
        meter = _Meter(self.runtime)
        for share in self.val.shares():
            for batch, _, loss in self._losses(share, meter):
                meter.note(loss, batch.keys, "the validation loss")
        meter.refuse_nan(self.epoch, now=True)
        return meter.means()

    def _losses(self, share: list[Batch], meter: "_Meter") -> Iterator[tuple[Batch, bool, Tensor]]:
        """The loss of each of a share's batches, and whether it is the last."""
        batches = [batch.to(self.runtime.device) for batch in share]
        model = self.runtime.unwrap(self.engine)
        counts = meter.count([self.objective.masks(model, batch) for batch in batches])
        for batch in batches:
            yield batch, batch is batches[-1], meter.loss(self.objective(self.engine, batch), counts)

    def _save(self, checkpoints: Checkpoints) -> None:
        history = vars(self.history) | {"seconds": self.history.seconds + time.perf_counter() - self._started}
        state = {"epoch": self.epoch, "step": self.step, "loader": self.train.state_dict(), "history": history}
        own = self.runtime.state(self.optimizer) | self.meter.state()
        shared = {"weights": trained_state(self.runtime.unwrap(self.engine))}
        if self.best_state:
            shared["best"] = self.best_state
        checkpoints.save(self.step, Checkpoint(shared, own, state | {"terms": self.meter.names}))

    def _restore(self, found: Checkpoint) -> None:
        state = found.state
        self.epoch, self.step = state["epoch"], state["step"]
        self.train.load_state_dict(state["loader"])
        self.history = History(**state["history"])
        self.best_state = found.shared.get("best", {})
        self.runtime.load_state(self.optimizer, found.own)
        self.meter.load_state(found.own, state["terms"])


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Copies of what training changes: trainable parameters and buffers. The frozen backbone is not among them.

    All ranks take part, and each gets them whole, also where the engine keeps them in parts.
    """
    with whole([parameter for parameter in model.parameters() if parameter.requires_grad]):
        return {name: value.detach().cpu().clone() for name, value in trained_tensors(model).items()}


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The same themselves, where they lie."""
    wanted = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    wanted |= {name for name, _ in model.named_buffers()}
    return {name: value for name, value in model.state_dict().items() if name in wanted}


def put_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load what ``trained_state`` gave. All ranks take part."""
    with whole([parameter for name, parameter in model.named_parameters() if name in state], write=True):
        model.load_state_dict(state, strict=False)


class _Meter:
    """Sums of every term over an epoch, kept on the device: nothing is read back before the epoch ends."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.names: list[str] = []
        self._counts: Tensor | None = None
        self._values: Tensor | None = None
        self._noted: list[tuple[Tensor, list[str], str]] = []
        self._before: list[tuple[Tensor, list[str], str]] = []  # of the last step

    def count(self, masks: list[dict[str, Tensor]]) -> Tensor:
        """Windows that each term counts in a global batch, from the masks of this rank's parts of it."""
        self.names = list(masks[0])
        own = torch.stack([torch.stack([part[name].sum() for name in self.names]) for part in masks]).sum(0).float()
        counts = self.runtime.total(own)
        self._counts = counts if self._counts is None else self._counts + counts
        return counts

    def loss(self, terms: dict[str, Term], counts: Tensor) -> Tensor:
        """This part of the weighted sum of the terms' means over the global batch.

        Gradients of the parts add up to that of the whole where they are averaged over ranks.
        """
        ordered = [terms[name] for name in self.names]  # as they were counted
        own = torch.stack([(term.value.float() * term.mask).sum() for term in ordered])
        self._values = own.detach() if self._values is None else self._values + own.detach()
        weights = torch.tensor([term.weight for term in ordered], device=own.device)
        return (weights * own / counts.clamp_min(1)).sum() * self.runtime.world

    def note(self, value: Tensor, keys: list[str], name: str) -> None:
        """Remember what must be a number until it is looked at."""
        self._noted.append((value.detach(), keys, name))

    def refuse_nan(self, epoch: int, now: bool) -> None:
        """Stop at the first that is no number. On a GPU, unless it is to be ``now``, the last step is not waited for.

        A loss is this rank's alone, a gradient that of all: where its norm is none and the losses were, all ranks come
        here, and each tells its own trials.

        Raises:
            Diverged: names the trials of its batch.
        """
        all_of_them = now or self.runtime.device.type != "cuda"
        due = self._before + (self._noted if all_of_them else [])
        self._before, self._noted = [] if all_of_them else self._noted, []
        for noted, keys, name in due:
            if not math.isfinite(value := noted.item()):
                raise Diverged(
                    f"{name} became {value} in epoch {epoch + 1}, at the trials {', '.join(keys)}; "
                    "lower the learning rate or look at the data"
                )

    def state(self) -> dict[str, Tensor]:
        """The sums so far."""
        both = {"meter.counts": self._counts, "meter.values": self._values}
        return {name: value for name, value in both.items() if value is not None}

    def load_state(self, state: dict[str, Tensor], names: list[str]) -> None:
        """Go on from the sums of another."""
        self.names = names
        self._counts, self._values = (
            state[name].to(self.runtime.device) if name in state else None for name in ("meter.counts", "meter.values")
        )

    def means(self) -> dict[str, float]:
        """Mean of every term over what it counted; NaN where nothing counted is left out."""
        assert self._values is not None
        assert self._counts is not None
        values = self.runtime.total(self._values).tolist()
        pairs = zip(self.names, values, self._counts.tolist(), strict=True)
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
