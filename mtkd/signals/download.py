"""Fetching the public recordings of a study, each file against its checksum."""

import functools
from pathlib import Path

from mtkd.console import say
from mtkd.errors import MtkdError

EEGMAT = "https://physionet.org/files/eegmat/1.0.0/"
_SUMS = Path(__file__).with_name("eegmat.sha256")


@functools.cache
def fetch(folder: Path) -> Path:
    """Fetch eegmat (Zyma et al., Data 2019; ODC-By 1.0) into ``folder``; what is there already is only checked.

    Raises:
        MtkdError: a file cannot be fetched or is not the published one.
    """
    import pooch

    pairs = (line.split() for line in _SUMS.read_text().splitlines())
    sums = {name: digest for digest, name in pairs}
    fetcher = pooch.create(folder, EEGMAT, registry={name: f"sha256:{digest}" for name, digest in sums.items()})
    for count, name in enumerate(sums, start=1):
        if not (folder / name).exists():
            say("shards", f"fetching {name} ({count} of {len(sums)})")
        try:
            fetcher.fetch(name)
        except Exception as error:  # requests, ValueError for a wrong checksum, OSError
            raise MtkdError(
                f"{EEGMAT}{name}: cannot be fetched ({type(error).__name__}); set data.folder to a folder that has it"
            ) from None
    return folder
