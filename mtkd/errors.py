"""The one error a user is meant to read."""

ERROR_FILE = (
    "MTKD_ERROR_FILE"  # environment: where a launched rank leaves its sentence for the process that launched it
)
_LONGEST = 500


def one_line(error: Exception) -> str:
    """What a library's error says, on one line; of a long one, which may quote a whole file, the beginning."""
    said = " ".join(str(error).split())
    return said if len(said) <= _LONGEST else said[:_LONGEST] + "..."


class MtkdError(Exception):
    """Bad input, told in one sentence that names the file or the key.

    The command line prints the sentence and ends with exit code 2, without a traceback.
    """


class Diverged(MtkdError):
    """A training whose loss is no number any more; of a sweep's trials, one that failed."""
