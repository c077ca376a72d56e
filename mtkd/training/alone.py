"""One run at a time trains a teacher: whoever else is to train the same waits, and then finds it there."""

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mtkd.training.runtime import Runtime
from mtkd.workspace import Unit

POLL_S = 2.0
_KNOWS_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


@contextmanager
def alone(unit: Unit, runtime: Runtime, tell: Callable[[str], None]) -> Iterator[bool]:
    """Hold a unit for the ranks of this run, waiting for any other; yield whether it is still to be made.

    A run that is killed holds nothing any more. Where the file system knows no locks, two runs do the same work twice,
    and either may take away the checkpoints that the other would need.
    """
    # a name is locked, not the unit's folder, which is not there before it is whole
    lock = FileLock(unit.folder.with_name(f".{unit.folder.name}.lock"), fallback_to_soft=False)
    first, waits = runtime.rank == 0, False
    # asked anew again and again, as ranks do not wait for each other as long as a training may take
    while not runtime.from_first(_take(lock, tell) if first else None):
        if not waits:
            tell(f"waiting for another run, which is at {unit.folder}")
        waits = True
        time.sleep(POLL_S)
    try:
        yield runtime.from_first(not unit.stands() if first else None)
    finally:
        if first:
            Path(lock.lock_file).unlink(missing_ok=True)  # who waits for this very file asks for one of its name again
        lock.release()


def _take(lock: FileLock, tell: Callable[[str], None]) -> bool:
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    except OSError as error:
        if error.errno not in _KNOWS_NO_LOCKS:
            raise
        tell(f"{lock.lock_file}: cannot be locked ({error.strerror}); start no second run of this study meanwhile")
    return True
