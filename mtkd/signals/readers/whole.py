"""Whether a file holds all that it says: MNE reads what is left of one that was cut, as a shorter recording."""

import gzip
import io
import re
import struct
import zlib
from pathlib import Path

import mne

from mtkd.errors import MtkdError, one_line

_BLOCK = {104: 1, 105: -1}  # FIF's tags that begin and end a block
_LAST, _FOLLOWING = -1, 0
_TAG = struct.Struct(">iiii")  # kind, type, bytes, where the next one is
_COMMON = re.compile(r"^[ \t]*([A-Za-z]+)[ \t]*=[ \t]*([^\r\n]*?)[ \t]*\r?$", re.MULTILINE)
_BYTES = {"short": 2, "int": 4, "single": 4}


def refuse_cut(path: Path, raw: mne.io.BaseRaw) -> None:
    """Refuse a BrainVision or FIF file that ends before its header says, or within a sample or a block; and an EEGLAB
    file whose samples are in another one that is not as long as it says.

    Raises:
        MtkdError: it does.
    """
    if path.suffix.lower() == ".vhdr":
        _refuse_cut_brainvision(path, raw)
    elif path.suffix.lower() == ".set":
        _refuse_other_length(path, raw)
    elif path.name.lower().endswith((".fif", ".fif.gz")):
        for part in filter(None, raw.filenames):
            if not _is_closed(Path(part)):
                raise MtkdError(f"{part}: truncated, it ends within a block")


def _refuse_cut_brainvision(path: Path, raw: mne.io.BaseRaw) -> None:
    """By the size of its data, of which the header tells samples and format."""
    said = {key.lower(): value for key, value in _COMMON.findall(_section(path))}
    n_bytes = Path(raw.filenames[0]).stat().st_size
    sample = len(raw.ch_names) * _BYTES[raw.orig_format]
    is_binary = said.get("dataformat", "").upper() == "BINARY"
    n_times, rest = divmod(n_bytes, sample) if is_binary else (raw.n_times, 0)
    points = said.get("datapoints", "0")
    promised = int(points) if points.isdecimal() and len(points) < 16 else 0
    if n_times < promised:
        raise MtkdError(f"{path}: truncated, its data hold {n_times} samples of the {promised} it promises")
    if said.get("dataorientation", "").upper() == "VECTORIZED" and promised != n_times:
        raise MtkdError(
            f"{path}: its data hold {n_times} samples of each channel, "
            f"and DataPoints, after which the next one begins, is {promised or 'not told'}"
        )
    if rest and not promised:
        raise MtkdError(f"{path}: truncated, its data are {n_bytes} bytes, and a sample {sample}")


def _refuse_other_length(path: Path, raw: mne.io.BaseRaw) -> None:
    """Single precision, one sample of all channels behind the other."""
    for part in map(Path, filter(None, raw.filenames)):
        if part.suffix.lower() == ".fdt":
            n_times = part.stat().st_size // (4 * len(raw.ch_names))
            if n_times != raw.n_times:
                raise MtkdError(f"{part}: holds {n_times} samples, not the {raw.n_times} that {path.name} promises")


def _section(path: Path) -> str:
    """What a header says between its section on all channels and the next one."""
    text = path.read_text(encoding="latin-1")
    start = re.search(r"^[ \t]*\[Common Infos\]", text, re.MULTILINE | re.IGNORECASE)
    rest = text[start.end() :] if start else ""
    stop = re.search(r"^[ \t]*\[", rest, re.MULTILINE)
    return rest[: stop.start()] if stop else rest


def _is_closed(path: Path) -> bool:
    """Whether all blocks that begin in a FIF file end in it, too.

    Raises:
        MtkdError: it is packed, and what comes out is not what was packed.
    """
    if path.suffix != ".gz":
        with path.open("rb") as file:
            return _closes(file)
    try:
        with gzip.open(path) as file:
            closed = _closes(file)
            while file.read(2**20):  # a checksum stands at the end
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise MtkdError(f"{path}: damaged ({type(error).__name__}: {one_line(error)})") from None
    return closed


def _closes(file: io.BufferedIOBase) -> bool:
    depth, at = 0, 0
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
