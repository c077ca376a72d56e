"""Trials in one row: every token that is there, once, in its place in time."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtkd.teachers.temporal.packing import pack, padded, unpadded


@st.composite
def presences(draw: st.DrawFn) -> Tensor:
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3)))
    flags = draw(st.lists(st.booleans(), min_size=(n := shape[0] * shape[1] * shape[2]), max_size=n))
    return torch.tensor(flags).view(shape)


@given(presences(), st.integers(0, 3))
def test_what_is_there_lies_trial_by_trial_behind_its_prompt(present: Tensor, n_prompt: int) -> None:
    packing = pack(present, n_prompt)
    if not present.any():
        present[0, 0, 0] = True  # a row cannot be empty
    row: list[tuple[int, int]] = []  # (cell, position), -1 for the prompt's
    lengths = []
    for trial, cells in enumerate(present.flatten(1)):
        there = cells.nonzero().flatten().tolist()
        if there:
            row += [(-1, position) for position in range(n_prompt)]
            row += [(trial * len(cells) + cell, n_prompt + cell) for cell in there]
            lengths.append(n_prompt + len(there))
    assert packing.lengths == tuple(lengths)
    assert packing.positions[0].tolist() == [position for _, position in row]
    assert packing.places.tolist() == [place for place, (cell, _) in enumerate(row) if cell >= 0]
    assert packing.cells.tolist() == [cell for cell, _ in row if cell >= 0]
    assert packing.prompts.tolist() == [place for place, (cell, _) in enumerate(row) if cell < 0]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_padding_is_taken_off_again(lengths: list[int]) -> None:
    row = torch.randn(1, sum(lengths), 3)
    rows = padded(row, tuple(lengths))
    assert rows.shape == (len(lengths), max(lengths), 3)
    assert not any(own[length:].any() for own, length in zip(rows, lengths, strict=True))
    assert torch.equal(unpadded(rows, tuple(lengths)), row)
