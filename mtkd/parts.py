"""A part of a stage's units, for machines that work on one study at the same time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from mtkd.errors import MtkdError

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """Every ``of``-th unit from the ``number``-th on, counted from 1; all of them without."""

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def pick(self, units: Sequence[T]) -> list[T]:
        """Those of the units that belong to it."""
        return list(units[self.number - 1 :: self.of])


WHOLE = Part()


def parse_part(text: str) -> Part:
    """What ``--part`` was given, such as ``2/8``.

    Raises:
        MtkdError: it names no part.
    """
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise MtkdError(f"--part {text}: a part is I/N, I from 1 to N")
    return Part(int(number), int(of))
