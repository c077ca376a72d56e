"""``mtkd plan``: what training the temporal teacher will need, before a cluster is booked."""

import tempfile
from pathlib import Path

from rich import box
from rich.table import Table

from mtkd.config import Study
from mtkd.console import console, counted
from mtkd.errors import MtkdError
from mtkd.shards.build import open_shards
from mtkd.study import variants
from mtkd.teachers.temporal.model import TemporalTeacher
from mtkd.teachers.temporal.rate import Rate, loss_of, measured_rate
from mtkd.teachers.temporal.unpack import outline
from mtkd.teachers.temporal.work import Work, teacher_of, work_of
from mtkd.training.footprint import activations, imagine
from mtkd.training.memory import GB, SHIPPED, Cluster, Memory, Weights, per_stage
from mtkd.training.runtime import Runtime

_ENDLESS = 1e12
_MARGIN = 1.15  # a run here needed as much as planned within this
_COLUMNS_TOLD = (
    "ZeRO 0: without DeepSpeed, of one rank; trained: with gradients and moments;\n"
    "gathered: weights of other ranks, fetched ahead; buckets: gradients on their way;\n"
    "barely: it fits, with less than 15 % to spare"
)
_COLUMNS = ("ZeRO", "frozen", "trained", "gathered", "activations", "buckets", "a rank", "host", "fits")


def run(
    study: Study, nodes: int, gpus_per_node: int, gpu_memory: float, rate: float | None = None, cpu: bool = False
) -> dict[str, Memory]:
    """Print memory, work and time of training the temporal teachers of all folds; return the memory by stage.

    Those of ``evaluate.teachers`` are named, but not planned.

    Args:
        nodes: machines.
        gpus_per_node: ranks on each.
        gpu_memory: of each rank, GB.
        rate: tokens a second that a rank trains; measured here without it.
        cpu: the ranks are of CPUs, and have nothing but that memory.

    Raises:
        MtkdError: there are no shards or no backbone, or a number is not above 0.
    """
    given = {"nodes": nodes, "gpus-per-node": gpus_per_node, "gpu-memory": gpu_memory, "tokens-per-second": rate}
    for name, value in given.items():
        if value is not None and not 0 < value < _ENDLESS:
            raise MtkdError(f"--{name} is {value:g}, not above 0{' or without end' if value > 0 else ''}")
    open_shards(study)  # that there are any, before a backbone is unpacked
    cluster = Cluster(nodes, gpus_per_node, round(gpu_memory * GB), cpu)
    runtime = Runtime(study.temporal.optim)
    # whose shares are looked at, and none of which runs here; beyond a trial a rank nothing is left to share out
    runtime.world = min(cluster.ranks, study.temporal.optim.batch_size)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        backbone = outline(study, folder / "all/outline")
        work = work_of(study, backbone, runtime)
        model = teacher_of(study, work.data, backbone)
        weights = Weights.of(model)
        _say_work(study, cluster, work)
        found = per_stage(weights, _activations(study, work, model), cluster)
        console.print(_table(cluster, weights, found))
        console.print(_advice(cluster, found), markup=False)
        if rate is None:
            n_layers, n_bytes = backbone.manifest().measured["layers"], max(1, weights.frozen_bytes)
            here = measured_rate(study, work, n_layers, n_bytes, runtime.device, folder / "few/outline")
        else:
            here = Rate(rate, "given")
    _say_time(work, here)
    _say_assumptions(cluster)
    if beside := [name for name in variants(study, "temporal") if name]:
        _say(f"not planned: the teachers of evaluate.teachers, {', '.join(beside)}; give one's keys here to plan it")
    return found


def _activations(study: Study, work: Work, model: TemporalTeacher) -> int:
    """Bytes of what a rank computes on: its share's signals, and what the largest micro-batch makes of them."""
    batch = work.data.cutter.batch(work.largest)
    counted_bytes = activations(imagine(model), lambda each: loss_of(study, work.data, batch, each))
    return counted_bytes + work.share_bytes


def _say_work(study: Study, cluster: Cluster, work: Work) -> None:
    settings, optim = study.temporal, study.temporal.optim
    kind = "CPU rank" if cluster.cpu else "GPU"
    _say(
        f"{study.name}, temporal teacher on {counted(cluster.nodes, 'node')} with {counted(cluster.ranks_a_node, kind)}"
        f" of {cluster.memory / GB:g} GB each"
    )
    _say(
        f"an epoch of {counted(work.n_teachers, 'teacher')}: {counted(work.n_trials, 'trial')}, "
        f"{work.n_tokens:,} tokens {'without padding' if work.packed else 'and their padding'}, "
        f"{counted(work.n_steps, 'step')} of {counted(optim.batch_size, 'trial')}"
    )
    _say(f"at most {counted(optim.epochs, 'epoch')}: {optim.epochs * work.n_steps:,} steps")
    _say(
        f"a step on a rank: at most {counted(work.n_micro, 'micro-batch', 'micro-batches')}, the largest of "
        f"{work.most:,} tokens where temporal.max_tokens allows {settings.max_tokens:,}"
    )
    if cluster.ranks > optim.batch_size:
        _say(
            f"at most {counted(optim.batch_size, 'rank')} of the {cluster.ranks:,} have a trial in a step; a larger "
            "temporal.optim.batch_size would give them work"
        )


def _table(cluster: Cluster, weights: Weights, found: dict[str, Memory]) -> Table:
    """Memory of a rank by stage, GB."""
    on_host = any(memory.host for memory in found.values())
    n_frozen = sum(numbers for numbers, _ in weights.frozen)
    table = Table(
        title="memory of a rank at its peak, GB" + ("; host: of a node" if on_host else ""),
        caption=f"{weights.n_trained:,} numbers are trained beside {n_frozen:,} frozen ones\n{_COLUMNS_TOLD}",
        caption_justify="left",
        box=box.SIMPLE_HEAD,  # narrow enough for a terminal of 80 columns, as a batch system's log is
        collapse_padding=True,
        pad_edge=False,
    )
    for name in _COLUMNS:
        if on_host or name != "host":
            is_first = name == "ZeRO"
            table.add_column(name, justify="left" if is_first else "right", no_wrap=not is_first)
    for stage, each in found.items():
        parts = [each.frozen, each.states, each.gathered, each.activations, each.buckets, each.total]
        row = [f"{part / GB:.2f}" for part in parts]
        if on_host:
            row.append(f"{each.host / GB:.2f}" if each.host else "")
        table.add_row(stage, *row, _fits(each, cluster))
    return table


def _fits(memory: Memory, cluster: Cluster) -> str:
    if memory.total > cluster.memory:
        return "no"
    return "yes" if _MARGIN * memory.total <= cluster.memory else "barely"


def _advice(cluster: Cluster, found: dict[str, Memory]) -> str:
    """A sentence on the first stage that fits with the margin, and can be started by a file that is shipped.

    Those for GPUs all start DeepSpeed, so stage 0, training without it, is for one rank of a CPU.
    """
    size = f"{cluster.memory / GB:g} GB"
    for stage, memory in found.items():
        if _fits(memory, cluster) == "yes" and (stage in SHIPPED or (cluster.cpu and cluster.ranks == 1)):
            without = "null temporal.accelerate=configs/accelerate/cpu_one.yaml"
            how = f"configs/deepspeed/{SHIPPED[stage]}.json" if stage in SHIPPED else without
            return f"ZeRO {stage} is the first to start here with 15 % of {size} to spare: temporal.deepspeed={how}"
    return (
        f"no stage that could be started here fits into {size} with 15 % to spare; more ranks, a smaller "
        "temporal.max_tokens, temporal.activation_checkpointing or temporal.dtype=bfloat16 need less"
    )


def _say_time(work: Work, rate: Rate) -> None:
    minutes = work.slowest / rate.tokens_per_second / 60
    span = f"{minutes / 60:,.1f} h" if minutes >= 60 else f"{minutes:.1f} min" if minutes >= 1 else "a minute"
    speed = rate.tokens_per_second
    told = f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"
    _say(f"time: at most {span}, at {told} tokens/s a rank, {rate.told}")
    _say(f"      {work.slowest:,} tokens on the rank that has most, step by step, validation included")


def _say_assumptions(cluster: Cluster) -> None:
    beside = (
        "what Python and its libraries take, and up to 0.5 GB that was freed and is kept for what comes"
        if cluster.cpu
        else "CUDA's own memory, its allocator's gaps and what NCCL takes, about 1 GB together"
    )
    _say(f"left out of memory: {beside}")
    _say("left out of time: what ranks send each other, reading, checkpoints; a rate is that of its device alone")


def _say(text: str) -> None:
    console.print(text, markup=False)
