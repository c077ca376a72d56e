"""Trials as one row of tokens: only what is there, in the order of time, each trial behind its prompt."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class Packing:
    """Which tokens there are and where in the row they lie.

    ``cells`` counts through trials, steps and modalities, the last fastest; ``places`` are those of the same tokens in
    the row. ``prompts`` are the places of the prompts' tokens, trial by trial. ``positions`` in time are what the
    decoder is told: a modality that is missing leaves its position empty. ``lengths`` are those of trials of which
    anything is there.
    """

    cells: Int[Tensor, " token"]
    places: Int[Tensor, " token"]
    prompts: Int[Tensor, " prompt_token"]
    positions: Int[Tensor, "1 place"]
    lengths: tuple[int, ...]


def pack(present: Bool[Tensor, "batch step modality"], n_prompt: int) -> Packing:
    """Lay out the tokens that are there. Of a batch without any, the first is taken: a row cannot be empty."""
    if not present.any():
        present = present.clone()
        present[0, 0, 0] = True
    trials, steps, modalities = present.nonzero().unbind(1)
    n_tokens = present.flatten(1).sum(1)
    there = n_tokens > 0
    lengths = n_tokens[there] + n_prompt
    starts = lengths.cumsum(0) - lengths
    prompt = torch.arange(n_prompt, device=present.device)
    prompts = (starts[:, None] + prompt).flatten()
    places = torch.arange(len(trials), device=present.device) + n_prompt * there.cumsum(0)[trials]
    in_time = steps * present.shape[2] + modalities
    positions = torch.empty(len(trials) + len(prompts), dtype=torch.long, device=present.device)
    positions[places], positions[prompts] = n_prompt + in_time, prompt.repeat(len(lengths))
    cells = trials * present[0].numel() + in_time
    return Packing(cells, places, prompts, positions[None], tuple(lengths.tolist()))


def padded(row: Shaped[Tensor, "1 place *width"], lengths: tuple[int, ...]) -> Shaped[Tensor, "trial token *width"]:
    """A row as trials under each other, zeros behind the shorter ones."""
    return pad_sequence(list(row[0].split(lengths)), batch_first=True)


def unpadded(rows: Float[Tensor, "trial token width"], lengths: tuple[int, ...]) -> Float[Tensor, "1 place width"]:
    """The inverse of ``padded``."""
    return torch.cat([row[:length] for row, length in zip(rows, lengths, strict=True)])[None]
