"""Sessions of a BioSemi ActiveTwo, on which both DEAP and MAHNOB-HCI were recorded."""

from collections.abc import Mapping
from pathlib import Path

from mtkd.config import Kind, Modality, Source
from mtkd.signals.readers.edf_header import read_header
from mtkd.signals.readers.names import renames
from mtkd.signals.readers.raw import read_streams
from mtkd.signals.recording import Stream


def read_session(
    path: Path,
    data: Source,
    bipolar: Mapping[str, list[str]],
    own: Mapping[str, Kind],
    names: Mapping[str, str] | None = None,
    hint: str = "",
) -> dict[Modality, Stream]:
    """As ``read_streams``, with the differences of external electrodes that the data set is about, where it has both.

    The first of two skin conductances is the only one in use, and at one site it has no number: the study may call it
    by either name.

    Raises:
        MtkdError: as ``read_streams``.
    """
    has = {signal.name for signal in read_header(path).signals}
    pairs = {name: pair for name, pair in bipolar.items() if has.issuperset(pair)} | data.bipolar
    renamed = renames(has, data, names or {})
    if "GSR1" in has and "GSR1" not in renamed and "GSR" not in renamed.values():
        renamed["GSR1"] = "GSR"
    channels = {renamed.get(name, name): kind for name, kind in data.channels.items()}
    own_data = data.model_copy(update={"bipolar": pairs, "channels": channels})
    return read_streams(path, own_data, own, renamed, hint=hint)
