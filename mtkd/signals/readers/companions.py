"""Which files are read together with one: what a recording depends on is more than the file that is named."""

import re
from pathlib import Path

_NAMED = re.compile(rb"^[ \t]*(?:DataFile|MarkerFile)[ \t]*[=:]([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
_HEADER_BYTES = 2**22
_CURRY = (".dap", ".rs3", ".cdt.dpa", ".cdt.dpo", ".ceo", ".cef")
_BESIDE = {
    ".set": (".fdt",),  # EEGLAB
    ".eeg": (".21E", ".21e", ".PNT", ".pnt", ".LOG", ".log"),  # Nihon Kohden
    ".dat": _CURRY,
    ".cdt": _CURRY,
}


def all_of(path: Path) -> tuple[Path, ...]:
    """The file and what MNE reads beside it: BrainVision's data and markers, a split FIF's parts, others by ending.

    What a header names in another folder is not among them; ``readers.raw`` refuses to read it.
    """
    suffix, found = path.suffix.lower(), []
    if suffix == ".vhdr" and path.is_file():
        with path.open("rb") as file:
            names = [name.decode("utf-8", "replace").strip() for name in _NAMED.findall(file.read(_HEADER_BYTES))]
        found = [path.with_name(name) for name in (name.replace("$b", path.stem) for name in names) if _is_plain(name)]
    elif suffix in _BESIDE:
        found = [path.with_suffix(other) for other in _BESIDE[suffix]]
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
