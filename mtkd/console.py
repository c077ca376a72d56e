"""What the stages tell while they run. One line a unit, the stage in front."""

import os
import time

from rich.console import Console
from rich.markup import escape

console = Console(highlight=False, soft_wrap=True)


def say(stage: str, message: str) -> None:
    """Print one line of progress; in a distributed run only the first rank speaks."""
    if os.environ.get("RANK", "0") == "0":
        console.print(f"[bold]{stage:9s}[/bold] {time.strftime('%H:%M:%S')}  {escape(shown(message))}")


def shown(text: str) -> str:
    """A text of others for a terminal, which would obey some characters."""
    return "".join(char if char.isprintable() else "?" for char in text)


def counted(n: int, one: str, many: str | None = None) -> str:
    """ "1 trial", "3 trials"; ``many`` is the plural where that is not ``one`` with an s."""
    return f"{n} {one if n == 1 else many or one + 's'}"
