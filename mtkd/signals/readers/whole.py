"""Whether a file holds all that it says: MNE reads what is left of one that was cut, as a shorter recording."""

import gzip
import re
import struct
from pathlib import Path

import mne

from mtkd.errors import MtkdError

_BLOCK = {104: 1, 105: -1}  # FIF's tags that begin and end a block
_LAST, _FOLLOWING = -1, 0
_TAG = struct.Struct(">iiii")  # kind, type, bytes, where the next one is
_BYTES = {"short": 2, "int": 4, "single": 4}


def refuse_cut(path: Path, raw: mne.io.BaseRaw) -> None:
    """Refuse a BrainVision or FIF file that ends before its header says, or within a sample or a block.

    Raises:
        MtkdError: it does.
    """
    if path.suffix.lower() == ".vhdr":
        _refuse_cut_brainvision(path, raw)
    elif path.name.lower().endswith((".fif", ".fif.gz")):
        for part in filter(None, raw.filenames):
            if not _is_closed(Path(part)):
                raise MtkdError(f"{part}: truncated, it ends within a block")


def _refuse_cut_brainvision(path: Path, raw: mne.io.BaseRaw) -> None:
    """By the size of its data, of which the header tells samples and format."""
    header = path.read_text(encoding="latin-1")
    number = re.search(r"^[ \t]*DataPoints[ \t]*=[ \t]*(\d{1,15})[ \t]*\r?$", header, re.MULTILINE | re.IGNORECASE)
    if number is not None and raw.n_times < int(number[1]):
        raise MtkdError(f"{path}: truncated, its data hold {raw.n_times} samples of the {number[1]} it promises")
    if re.search(r"^[ \t]*DataFormat[ \t]*=[ \t]*BINARY", header, re.MULTILINE | re.IGNORECASE):
        sample = len(raw.ch_names) * _BYTES[raw.orig_format]
        n_bytes = Path(raw.filenames[0]).stat().st_size
        if n_bytes % sample:
            raise MtkdError(f"{path}: truncated, its data are {n_bytes} bytes, and a sample {sample}")


def _is_closed(path: Path) -> bool:
    """Whether all blocks that begin in a FIF file end in it, too."""
    depth, at = 0, 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        while len(tag := file.read(_TAG.size)) == _TAG.size:
            kind, _, n_bytes, following = _TAG.unpack(tag)
            depth += _BLOCK.get(kind, 0)
            if following == _LAST:
                break
            after = at + _TAG.size + n_bytes if following == _FOLLOWING else following
            if after <= at:  # a list that leads back, of which MNE's own way through is not known
                return True
            at = after
            file.seek(at)
    return depth == 0
