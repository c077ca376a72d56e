"""The one error a user is meant to read."""

ERROR_FILE = (
    "MTKD_ERROR_FILE"  # environment: where a launched rank leaves its sentence for the process that launched it
)
_LONGEST = 500


def one_line(error: Exception) -> str:
    """What a library's error says, on one line, or its kind if it says nothing.

    Of a long one, which may quote a whole file or a whole model, the beginning and the end.
    """
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= _LONGEST else said[: _LONGEST // 2] + " ... " + said[-_LONGEST // 2 :]


class MtkdError(Exception):
    """Bad input, told in one sentence that names the file or the key.

    The command line prints the sentence and ends with exit code 2, without a traceback.
    """


class Diverged(MtkdError):
    """A training whose loss is no number any more; of a sweep's trials, one that failed."""
