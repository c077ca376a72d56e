"""DeepSpeed's ZeRO: what its configuration may say, and weights of which each rank holds a part (stage 3)."""

import contextlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtkd.config import Optim, Temporal
from mtkd.errors import MtkdError
from mtkd.files import read_json

_ENGINE_KEYS = {
    "zero_optimization",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer",
    "wall_clock_breakdown",
    "steps_per_print",
    "flops_profiler",
    "comms_logger",
    "activation_checkpointing",
    "dump_state",
}
"""Of DeepSpeed's keys those that leave the numbers alone."""
_ZERO_KEYS = {
    "stage",
    "contiguous_gradients",
    "reduce_scatter",
    "reduce_bucket_size",
    "allgather_partitions",
    "allgather_bucket_size",
    "overlap_comm",
    "offload_optimizer",
    "offload_param",
    "sub_group_size",
    "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
    "stage3_prefetch_bucket_size",
    "stage3_param_persistence_threshold",
    "stage3_model_persistence_threshold",
    "stage3_gather_16bit_weights_on_model_save",
    "round_robin_gradients",
    "load_from_fp32_weights",
    "elastic_checkpoint",
    "ignore_unused_parameters",
}
"""The same of those within ``zero_optimization``: none that rounds gradients or weights."""


def engine_config(path: str, optim: Optim) -> dict[str, Any]:
    """A study's DeepSpeed configuration, completed by what the study says.

    Raises:
        MtkdError: it is not there, is none of DeepSpeed's, or sets what is the study's to say.
    """
    if not Path(path).is_file():
        raise MtkdError(f"temporal.deepspeed = {path}: no such file")
    config = read_json(Path(path))
    if not isinstance(config, dict) or not isinstance(config.get("zero_optimization", {}), dict):
        raise MtkdError(f"temporal.deepspeed = {path}: not a configuration of DeepSpeed")
    # What changes the numbers is the study's to say, or a fingerprint would not tell two trainings apart.
    for key in ("train_micro_batch_size_per_gpu", "gradient_clipping"):
        if config.get(key, "auto") != "auto":
            raise MtkdError(f"{path}: {key} is set by the study's temporal.optim; leave it to 'auto'")
    inner = {f"zero_optimization.{key}" for key in config.get("zero_optimization", {}).keys() - _ZERO_KEYS}
    for key in sorted(config.keys() - _ENGINE_KEYS | inner):
        raise MtkdError(f"{path}: {key} is none of the keys that are known to leave alone what is learned")
    if config.get("gradient_accumulation_steps", 1) != 1:
        raise MtkdError(f"{path}: gradient_accumulation_steps must be 1; the batch is the study's")
    if config.get("zero_optimization", {}).get("stage", 0) not in (0, 1, 2, 3):
        raise MtkdError(f"{path}: ZeRO has the stages 0, 1, 2 and 3")
    config["train_micro_batch_size_per_gpu"] = 1  # not what it goes by: trials differ in length
    config["gradient_clipping"] = optim.grad_clip
    return config


def refuse_compile(settings: Temporal, stage: int) -> None:
    """Make sure that what is to be compiled can be.

    Raises:
        MtkdError: it cannot.
    """
    if settings.compile and stage == 3:
        raise MtkdError(
            "temporal.compile: with ZeRO-3 weights come and go while a layer runs, which cannot be compiled"
        )


def parted(config: dict[str, Any], dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Within, each rank of a model that is made keeps its part of every weight, and none the whole."""
    from deepspeed import zero

    # The type goes by the configuration: on a CPU without float16, `dtype=` is not heeded.
    types = {key: {"enabled": dtype is each} for key, each in (("bf16", torch.bfloat16), ("fp16", torch.float16))}
    return zero.Init(config_dict_or_path=config | types)


def whole(parameters: Iterable[Tensor], write: bool = False) -> AbstractContextManager[Any]:
    """Within, the parameters are whole on every rank, whatever part of them it keeps. All ranks take part.

    What the first rank changes stays, with ``write``.
    """
    in_parts = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not in_parts:
        return contextlib.nullcontext()
    from deepspeed import zero

    return zero.GatheredParameters(in_parts, modifier_rank=0 if write else None)


def size_of(parameter: Tensor) -> int:
    """Its numbers, all of them, whatever part of it a rank keeps."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def is_written_here(parameter: Tensor) -> bool:
    """Whether what this rank writes to a parameter stays: that of the first where each keeps a part."""
    return not hasattr(parameter, "ds_id") or torch.distributed.get_rank() == 0


def forget_engines() -> None:
    """Let go of stage 3's engines that are gone, which a stack of modules and a method's cache hold for ever.

    Looked up in DeepSpeed 0.19. Without, each fold left its backbone and its buffers behind.
    """
    from deepspeed.runtime.zero.parameter_offload import FWD_MODULE_STACK
    from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator

    FWD_MODULE_STACK.clear()
    for method in vars(PartitionedParameterCoordinator).values():
        for cell in getattr(method, "__closure__", None) or ():
            if hasattr(cell.cell_contents, "cache_clear"):
                cell.cell_contents.cache_clear()


def kept(optimizer: Any) -> list[Tensor]:
    """The flat float32 weights that this rank's ZeRO optimizer updates, its part of all."""
    if hasattr(optimizer, "fp32_partitioned_groups_flat"):  # stage 3 lays them into its groups for a step only
        return list(optimizer.fp32_partitioned_groups_flat)
    return [parameter for group in plain_optimizer(optimizer).param_groups for parameter in group["params"]]


def plain_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """PyTorch's own within DeepSpeed's; stage 0 has none around it."""
    found: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return found


@dataclass(frozen=True)
class Limits:
    """What a configuration lets an engine have in memory at once, in numbers, not bytes.

    ``bucket`` of gradients that it reduces together; for stage 3 the ``whole`` weights that it gathers ahead or keeps
    for the way back, and the size up to which a weight is kept whole for good (``persistent``). ``offload`` is that to
    the host.
    """

    stage: int
    offload: bool
    bucket: int
    whole: int
    persistent: int


def limits(path: Path) -> Limits:
    """Those of a configuration, by its keys and by DeepSpeed's defaults for the others."""
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    found = DeepSpeedZeroConfig(**read_json(path)["zero_optimization"])
    # A weight that comes again within `max_reuse_distance` is kept: forward and back, those of half that distance.
    whole = max(found.max_live_parameters if found.prefetch_bucket_size else 0, found.max_reuse_distance // 2)
    return Limits(
        int(found.stage),
        found.offload_param is not None,
        found.reduce_bucket_size * (2 if found.overlap_comm else 1),
        whole,
        found.param_persistence_threshold,
    )


def estimated(stage: int, n_trained: int, nodes: int, ranks_a_node: int, offload: bool = False) -> tuple[int, int]:
    """DeepSpeed's own estimates for stages 2 and 3, in bytes: a rank's, and the host's for each node.

    They are of a model that is trained whole by Adam in 16 bits: weights and gradients of 2 bytes beside gradients,
    masters and two moments of 4. What is gathered is left out, as theirs is of one layer only.
    """
    if stage == 3:
        from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs

        host, rank, _ = estimate_zero3_model_states_mem_needs(
            n_trained, 0, ranks_a_node, nodes, cpu_offload=offload, cpu_offload_params=offload
        )
    else:
        from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

        host, rank = estimate_zero2_model_states_mem_needs(n_trained, ranks_a_node, nodes, cpu_offload=offload)
    return rank, host
