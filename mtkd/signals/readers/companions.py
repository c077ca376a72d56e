"""Which files are read together with one: what a recording depends on is more than the file that is named."""

import re
from pathlib import Path

_NAMED = re.compile(rb"^\s*(?:DataFile|MarkerFile)\s*[=:]\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE)
_HEADER_BYTES = 2**22


def all_of(path: Path) -> tuple[Path, ...]:
    """The file and what MNE reads beside it: BrainVision's data and markers, EEGLAB's ``.fdt``, a split FIF's parts.

    What a header names in another folder is not among them; ``readers.raw`` refuses to read it.
    """
    suffix, found = path.suffix.lower(), []
    if suffix == ".vhdr" and path.is_file():
        with path.open("rb") as file:
            names = [name.decode("utf-8", "replace") for name in _NAMED.findall(file.read(_HEADER_BYTES))]
        found = [path.with_name(name) for name in (name.replace("$b", path.stem) for name in names) if _is_plain(name)]
    elif suffix == ".set":
        found = [path.with_suffix(".fdt")]
    elif suffix == ".fif":
        found = sorted(other for other in path.parent.glob("*.fif") if _is_part(other.stem, path.stem))
    return (path, *(other for other in dict.fromkeys(found) if other != path and other.is_file()))


def _is_plain(name: str) -> bool:
    """Whether a name is that of a file, and of no folder."""
    return Path(name).name == name and "\0" not in name


def _is_part(stem: str, first: str) -> bool:
    """Whether a name is that of a later part: ``x-1`` of ``x``, ``x_split-02_eeg`` of ``x_split-01_eeg``."""
    return bool(re.fullmatch(re.escape(first) + r"-\d+", stem)) or (
        "split-01" in first and bool(re.fullmatch(re.escape(first).replace(re.escape("split-01"), r"split-\d+"), stem))
    )
