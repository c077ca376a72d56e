"""Ranks, devices and engines: the place that knows accelerate and DeepSpeed, of what trains."""

import contextlib
import copy
import json
import os
import sys
import time
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from yaml import YAMLError

from mtkd.config import Optim
from mtkd.console import counted
from mtkd.errors import MtkdError, one_line
from mtkd.files import fingerprint
from mtkd.training.zero import engine_config, forget_engines, kept, parted, plain_optimizer

# DeepSpeed reads this when it is imported, and transformers and accelerate import it wherever it is installed; without
# it, a machine without GPU is guessed at, with a warning.
if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
# And torch, before it compiles: what belongs to an environment stays in it, or several would build over each other.
if sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK):
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix, "torch_extensions")))


_PATIENCE = timedelta(hours=2)  # of ranks with the first, which may be unpacking a large backbone


class Runtime:
    """One process of a training; ``deepspeed`` is the path of a DeepSpeed configuration, None to train without it."""

    def __init__(self, optim: Optim, deepspeed: str | None = None) -> None:
        started = int(os.environ.get("WORLD_SIZE", "1"))
        _check_engine(deepspeed, started)
        self._deepspeed, self._optim = deepspeed, optim
        self._config = engine_config(deepspeed, optim) if deepspeed else {}
        with contextlib.redirect_stdout(sys.stderr):  # DeepSpeed's own words, of every rank, belong into the log
            self.accelerator = _accelerator(self._config)
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.device: torch.device = self.accelerator.device
        self._check_ranks(started)

    def _check_ranks(self, started: int) -> None:
        if self.device.type == "cuda" and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > torch.cuda.device_count():
            raise MtkdError(
                f"temporal.accelerate starts more ranks than this machine has GPUs ({torch.cuda.device_count()}); "
                "start fewer, or hide the GPUs with CUDA_VISIBLE_DEVICES="
            )
        if self.accelerator.mixed_precision != "no":
            raise MtkdError("temporal.accelerate sets mixed_precision; temporal.dtype is the study's key for that")
        if self.world != started:
            raise MtkdError(f"accelerate started {started} ranks, but the runtime sees {self.world}")

    @property
    def engine(self) -> str:
        """Name of what trains, for the manifest; without a GPU's, the CPU."""
        gpu = f" on {torch.cuda.get_device_name(self.device)}" if self.device.type == "cuda" else ""
        return f"{self.kind}{gpu}"

    @property
    def kind(self) -> str:
        """What a rank's part of the optimizer's state belongs to, wherever it is computed."""
        if not self._deepspeed and self.world == 1:
            return "torch"
        return f"{f'DeepSpeed ZeRO-{self.stage}' if self._deepspeed else 'torch'}, {counted(self.world, 'rank')}"

    @property
    def layout(self) -> str:
        """Fingerprint of what decides how a rank's part of the optimizer's state lies, by the configuration's keys."""
        keys = self._config.get("zero_optimization", {})
        return fingerprint(json.dumps(keys, sort_keys=True))  # in whatever order they stand

    @property
    def stage(self) -> int:
        """Of ZeRO; 0 without DeepSpeed."""
        return int(self._config.get("zero_optimization", {}).get("stage", 0))

    def parting(self, dtype: torch.dtype) -> AbstractContextManager[Any]:
        """Within, a model is made as the engine keeps it: in parts over the ranks with ZeRO-3, otherwise whole."""
        return parted(self._config, dtype) if self.stage == 3 else contextlib.nullcontext()

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """Wrap model and optimizer in the engine, and make sure that it is the one asked for."""
        try:
            prepared, wrapped = self.accelerator.prepare(model, optimizer)
        except ValidationError as error:  # DeepSpeed reads its configuration no earlier
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise MtkdError(f"temporal.deepspeed = {self._deepspeed}: {key}: {first['msg']}") from None
        if self._deepspeed and type(prepared).__name__ != "DeepSpeedEngine":
            raise MtkdError(f"DeepSpeed was asked for, but the engine is {type(prepared).__name__}")
        if self._deepspeed and prepared.zero_optimization_stage() != self.stage:
            raise MtkdError(f"{self.engine} was asked for, but the stage is {prepared.zero_optimization_stage()}")
        return prepared, wrapped

    def backward(self, loss: Tensor, last: bool) -> None:
        """Add the gradients of a part of the global batch; with the ``last`` one they are those of the whole.

        DeepSpeed then also clips, as its configuration says, and updates.
        """
        self.accelerator.sync_gradients = last
        self.accelerator.backward(loss)

    def step(self, model: nn.Module, optimizer: Any) -> Tensor:
        """Clip and update, where DeepSpeed has not done so; return the norm of the gradient of all ranks."""
        if self._deepspeed:
            # By one that is no number it updates nothing, and calls the norm infinite; at stage 0 it tells none.
            told = model.get_global_grad_norm()  # type: ignore[operator]
            norm = torch.zeros(()) if told is None else torch.as_tensor(told)
        else:
            norm = nn.utils.clip_grad_norm_(model.parameters(), self._optim.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        return norm

    def state(self, optimizer: Any) -> dict[str, Tensor]:
        """This rank's part of the optimizer's state, and where its random numbers are."""
        found = {
            f"optimizer.{index}.{name}": torch.as_tensor(value).detach().cpu().clone()
            for index, parameter in enumerate(self._parameters(optimizer))
            for name, value in self._base(optimizer).state[parameter].items()
        }
        found["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            found["random.cuda"] = torch.cuda.get_rng_state(self.device)
        return found

    def load_state(self, optimizer: Any, state: dict[str, Tensor]) -> None:
        """Go on from what ``state`` gave on as many ranks."""
        base = self._base(optimizer)
        for key, value in state.items():
            part, _, rest = key.partition(".")
            if part == "optimizer":
                index, _, name = rest.partition(".")
                parameter = self._parameters(optimizer)[int(index)]
                before = base.state[parameter].get(name)
                place = before.device if isinstance(before, Tensor) else parameter.device
                base.state[parameter][name] = value.to("cpu" if name == "step" else place)
        torch.set_rng_state(state["random.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random.cuda"], self.device)

    def _base(self, optimizer: Any) -> torch.optim.Optimizer:
        """The optimizer inside accelerate's and DeepSpeed's; of the latter, over this rank's part of all parameters."""
        return plain_optimizer(optimizer.optimizer)

    def _parameters(self, optimizer: Any) -> list[Tensor]:
        if self._deepspeed:
            return kept(optimizer.optimizer)
        return [parameter for group in optimizer.optimizer.param_groups for parameter in group["params"]]

    def wait(self) -> None:
        """Until all ranks are here."""
        self.accelerator.wait_for_everyone()

    def total(self, values: Tensor) -> Tensor:
        """Sum over all ranks."""
        if self.world == 1:
            return values
        return self.accelerator.reduce(values.to(self.device), "sum").to(values.device)

    def unwrap(self, model: nn.Module) -> nn.Module:
        """The model inside the engine."""
        return self.accelerator.unwrap_model(model) if self._deepspeed else model

    def agree(self, value: Any, meaning: str) -> None:
        """Make sure that all ranks hold the same value.

        Raises:
            MtkdError: they do not, as where each node has a workspace or data of its own.
        """
        from accelerate.utils import gather_object

        if any(other != value for other in gather_object([value])):
            raise MtkdError(f"the ranks do not agree about {meaning}; they need one workspace and the same data")

    def from_first(self, value: Any) -> Any:
        """The first rank's value on every rank."""
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0] if self.world > 1 else value

    def release(self) -> None:
        """Drop the engine, so that the next training gets one of its own."""
        self.accelerator.free_memory()
        if self.stage == 3:
            forget_engines()


def _accelerator(config: dict[str, Any]) -> Any:
    """Accelerate's view of this process, with DeepSpeed where there is a configuration of it."""
    from accelerate import Accelerator
    from accelerate.utils import DeepSpeedPlugin, InitProcessGroupKwargs

    if not config:
        return Accelerator()
    # The flag off, or transformers would part every model by itself, and in another type than the study's.
    plugin = DeepSpeedPlugin(hf_ds_config=copy.deepcopy(config), zero3_init_flag=False)
    # Without a backend named, accelerate sees no accelerator and makes every rank believe it is alone.
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    handlers = [InitProcessGroupKwargs(backend=backend, timeout=_PATIENCE)]
    return Accelerator(deepspeed_plugin=plugin, kwargs_handlers=handlers)


def _check_engine(deepspeed: str | None, n_ranks: int) -> None:
    starts_it = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
    if deepspeed is None and (starts_it or n_ranks > 1):
        told = "temporal.accelerate starts DeepSpeed" if starts_it else f"accelerate started {n_ranks} ranks"
        raise MtkdError(f"temporal.deepspeed is null, but {told}")
    if deepspeed is not None and launched() and not starts_it:
        raise MtkdError(f"temporal.accelerate starts no DeepSpeed, but temporal.deepspeed is {deepspeed}, not null")


def launched() -> bool:
    """Whether ``accelerate launch`` started this process."""
    return "ACCELERATE_MIXED_PRECISION" in os.environ


def read_launch(config: str, key: str) -> Any:
    """What ``accelerate launch`` will read from a file; ``key`` is told in errors.

    Raises:
        MtkdError: it is not there, or none of accelerate's.
    """
    from accelerate.commands.config import load_config_from_file

    if not Path(config).is_file():
        raise MtkdError(f"{key}: no such file")
    try:
        return load_config_from_file(config)
    except Exception as error:  # whatever foreign text makes it raise
        reason = one_line(error) if isinstance(error, ValueError | YAMLError) else "not what `accelerate config` writes"
        raise MtkdError(f"{key}: {reason}") from None


def compile_operators() -> None:
    """Build now what DeepSpeed builds when ranks first start without a GPU: a minute on two cores, once a machine.

    It stays in torch's folder of extensions, that of the virtual environment where there is one.
    """
    if not torch.cuda.is_available():
        from deepspeed.accelerator import get_accelerator

        clear_locks()
        get_accelerator().create_op_builder("ShareMemCommBuilder").load()


def compiled() -> bool:
    """Whether ranks start without compiling anything."""
    return torch.cuda.is_available() or any(_extensions().glob("**/deepspeed_shm_comm.so"))


def clear_locks(limit_s: float = 300.0) -> None:
    """Take away what a killed compilation left locked, once it is too old to be somebody's at work, in seconds.

    torch waits for such a lock for ever, and says nothing.
    """
    for lock in _extensions().glob("**/lock"):
        with contextlib.suppress(FileNotFoundError):  # whoever compiled is done
            while time.time() - lock.stat().st_mtime < limit_s:
                time.sleep(1)
            lock.unlink()


def _extensions() -> Path:
    from torch.utils.cpp_extension import get_default_build_root

    return Path(os.environ.get("TORCH_EXTENSIONS_DIR", get_default_build_root()))
