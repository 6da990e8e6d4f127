"""A lock that lets only one process write to the directory of a sweep."""

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> None:
        # The locked byte is far behind the text, so that other processes can read it.
        os.lseek(descriptor, 2**20, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class DirectoryLock:
    """Locks a directory until `release`, or until the process ends in any way.

    Args:
        directory: Path object of a directory that exists.

    Raises:
        ValueError: If another sweep has locked the directory.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / "sweep.lock"
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(self._descriptor)
        except OSError as error:
            holder = os.read(self._descriptor, 32).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise ValueError(
                "Only one process at a time can write to the directory of a sweep. "
                "Wait until the other one has ended, or take another directory. "
                f"Received: directory={str(directory)!r}, which is in use by process "
                f"{holder or 'unknown'}"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Lets other processes write to the directory."""
        os.close(self._descriptor)
