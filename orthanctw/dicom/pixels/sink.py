"""Where an object goes that is being made: memory, or a file once it is large."""

from __future__ import annotations

import contextlib
import errno
import os
from types import TracebackType
from typing import BinaryIO

from orthanctw.errors import CannotWriteFile, FullStorage, ParameterOutOfRange
from orthanctw.framing import PAYLOAD_LIMIT


class Sink:
    """Takes bytes.

    Parameters
    ----------
    path : str
        A file that is made when there are more than `threshold` bytes; empty: all stays in memory.

    Left by an exception it leaves no file. Raises FullStorage, CannotWriteFile, ParameterOutOfRange.
    """

    def __init__(self, path: str, threshold: int) -> None:
        self._path = path
        self._threshold = threshold if path else PAYLOAD_LIMIT
        self._parts: list[bytes | memoryview] = []
        self._file: BinaryIO | None = None
        self.size = 0

    @property
    def folder(self) -> str | None:
        """A folder for other large files; None for the usual one."""
        return os.path.dirname(self._path) or None

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        if error is None:
            file.close()
            return
        # What a full disk has refused is still in the buffer: closing tries it again, and would tell that instead.
        with contextlib.suppress(OSError):
            file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        self.size += len(data)
        if self._file is None and self.size <= self._threshold:
            self._parts.append(data)
            return
        if not self._path:
            raise ParameterOutOfRange("The result is too large")
        try:
            if self._file is None:
                self._file = open(self._path, "xb")  # noqa: SIM115 - closed by __exit__
                self._file.writelines(self._parts)
                self._parts.clear()
            self._file.write(data)
        except OSError as e:
            raise _refused(e) from e

    def content(self) -> bytes:
        """What is in memory; empty when there is a file, which is then complete."""
        try:
            if self._file is not None:
                self._file.flush()
        except OSError as e:
            raise _refused(e) from e
        return b"".join(self._parts)


def _refused(error: OSError) -> CannotWriteFile | FullStorage:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return FullStorage("No space left in the storage area")
    return CannotWriteFile("The storage area cannot be written")
