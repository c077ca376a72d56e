"""The temporal teacher's training and use, as ratios: ``python benchmarks/teachers.py [--json F] [--layers N]``.

The peer is transformers' Trainer with the same encoders, backbone and LoRA, whose trials lie under each other, padded;
trials are noise of MAHNOB-HCI's lengths. Each rate is that of the best of several runs, in processes of their own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rows import ROOT, Rows, finish, parser
from teachers_memory import write_backbone
from teachers_rank import data_of, study_of, teacher_of, write_trials

from mtkd.cache.build import Teacher, answers
from mtkd.shards.batch import Cutter
from mtkd.shards.write import write_shard
from mtkd.teachers.temporal.train import loaders
from mtkd.training.runtime import Runtime
from mtkd.workspace import Unit


def rate(what: str, folder: Path, layers: int, n_ranks: int) -> float:
    """Trained tokens a second with two cores: two threads, or two ranks with one each."""
    command = [sys.executable]
    if n_ranks > 1:
        config = ROOT / "configs/accelerate/cpu_two_ranks.yaml"
        command += ["-m", "accelerate.commands.launch", "--config_file", str(config)]
    command += [str(ROOT / "benchmarks/teachers_rank.py"), what, str(folder), str(layers)]
    environment = os.environ | {"OMP_NUM_THREADS": str(2 // n_ranks)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    if done.returncode:
        raise SystemExit(f"{what}: {done.stderr}")
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"tokens')))
    assert told["threads"] == 2 // n_ranks, told
    return float(told["tokens_a_second"])


def padding(folder: Path, lengths: str, world: int) -> tuple[float, str]:
    """Share of the tokens that go through the decoder in an epoch and are of no trial, over all ranks."""
    study = study_of(folder, 1)
    data = data_of(study, folder / lengths)
    model, runtime = teacher_of(study, data).eval(), Runtime(study.temporal.optim)
    wanted = processed = 0

    def look(_: torch.nn.Module, args: tuple[()], options: dict[str, torch.Tensor]) -> None:
        nonlocal processed
        processed += options["inputs_embeds"].shape[:2].numel()

    model.backbone.model.register_forward_pre_hook(look, with_kwargs=True)
    for runtime.rank, runtime.world in [(rank, world) for rank in range(world)]:
        for batch in loaders(study, data, model, runtime)[0]:
            wanted += sum(int(batch.present(name).sum()) for name in model.modalities)
            with torch.inference_mode():
                model(batch)
    return 1 - wanted / processed, f"{processed - wanted} of {processed} tokens on {world} ranks"


def cached(folder: Path, layers: int) -> tuple[float, str]:
    """Windows a second that are written to a cache, against those of the plain forward pass over batches in memory."""
    study = study_of(folder, layers)
    data = data_of(study, folder / "mahnob")
    teacher = Teacher(teacher_of(study, data).eval(), data.cutter, study.temporal.max_tokens)
    windows = Cutter(data.cutter.shards, {}, study.windows, study.labels)
    samples = data.cutter.shards.index.samples
    batches = [data.cutter.batch([sample.key for sample in some]) for some in teacher.batches(samples)]
    best = {"cache": float("inf"), "plain": float("inf")}
    for _ in range(3):
        started = time.perf_counter()
        write_shard(folder / "cache.tar", answers(samples, "temporal", teacher, windows, np.dtype(np.float16)))
        best["cache"] = min(best["cache"], time.perf_counter() - started)
        started = time.perf_counter()
        with torch.no_grad():
            for batch in batches:
                teacher.model(batch)
        best["plain"] = min(best["plain"], time.perf_counter() - started)
    n_windows = sum(windows.n_steps(sample) for sample in samples)
    told = f"{n_windows / best['cache']:.0f} against {n_windows / best['plain']:.0f} windows/s"
    return best["plain"] / best["cache"], told


def memory(unit: Unit, folder: Path, stage: int, n_ranks: int) -> dict[str, float]:
    """States and peak of a rank of a stage of ZeRO, mean over the ranks; bytes."""
    config = json.loads((ROOT / "configs/deepspeed/zero3.json").read_text())
    config["zero_optimization"] = {"stage": stage}
    (folder / "deepspeed.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(n_ranks)]
    command += ["--config_file", str(ROOT / "configs/accelerate/cpu_two_ranks.yaml")]
    command += [str(ROOT / "benchmarks/teachers_memory.py"), str(folder / "deepspeed.json"), str(unit.folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode:
        raise SystemExit(f"memory: {done.stderr}")
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"states')))
    assert told["engine"] == f"DeepSpeed ZeRO-{stage}, {n_ranks} ranks", told
    return told


def _memory_rows(rows: Rows, folder: Path) -> None:
    for size in ("135 M", "1 B"):
        unit = write_backbone(folder, size)
        whole, parted = (memory(unit, folder, stage, 4) for stage in (0, 3))
        peaks = f"peaks {parted['peak'] / 1e6:.0f} against {whole['peak'] / 1e6:.0f} MB"
        told = f"{parted['states'] / 1e6:.0f} against {whole['states'] / 1e6:.0f} MB; {peaks}"
        rows.at_most(f"ZeRO-3's states of a rank of 4, {size}", parted["states"] / whole["states"], 0.275, told)


def _limited(found: tuple[float, str], limit: float) -> tuple[float, float, str]:
    """A ratio, its goal and what it was made of."""
    return found[0], limit, found[1]


def main() -> None:
    """Measure and tell."""
    arguments = parser(__doc__)
    arguments.add_argument("--layers", type=int, default=4, help="of SmolLM2")
    given = arguments.parse_args()
    rows = Rows()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for lengths in ("mahnob", "deap"):
            write_trials(folder / lengths, lengths)
        study = study_of(folder, given.layers)
        teacher_of(study, data_of(study, folder / "mahnob"))  # unpacks the backbone
        # in turn, as what else a machine does comes and goes within minutes
        rates = [(rate("ours", folder, given.layers, 1), rate("trainer", folder, given.layers, 1)) for _ in range(2)]
        own, peer = (max(each) for each in zip(*rates, strict=True))
        told = f"{own:.0f} against {peer:.0f} tokens/s"
        rows.at_least("trained tokens/s, against transformers.Trainer", own / peer, 1.3, told)
        two = rate("zero2", folder, given.layers, 2)
        rows.at_least(
            "two ranks, against one with two threads", two / own, 0.85, f"{two:.0f} against {own:.0f} tokens/s"
        )
        for lengths in ("mahnob", "deap"):
            rows.at_most(f"padding, trials of {lengths}'s lengths", *_limited(padding(folder, lengths, 2), 0.05))
        rows.at_least("windows for the cache, against the forward pass", *_limited(cached(folder, given.layers), 0.9))
        _memory_rows(rows, folder)
    finish("teachers.py", rows, given.json)


if __name__ == "__main__":
    main()
