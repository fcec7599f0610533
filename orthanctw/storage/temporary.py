"""A folder of large temporary files elsewhere (``TemporaryDirectory``)."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat

from orthanctw.errors import ConfigurationError


class TemporaryFolder:
    """A folder of ours within one that others may use too; each server has its own, by its storage directory.

    Parameters
    ----------
    parent : str
        ``TemporaryDirectory``.
    root : str
        ``StorageDirectory``.
    """

    def __init__(self, parent: str, root: str) -> None:
        self._parent = parent
        digest = hashlib.sha256(os.fsencode(os.path.abspath(root))).hexdigest()
        self.path = os.path.join(parent, f"orthanctw-{digest[:16]}")

    def new_path(self) -> str:
        """Where a new file may be made."""
        return os.path.join(self.path, secrets.token_hex(16))

    def prepare(self) -> None:
        """Make the folder, and empty it of what an earlier server has left (blocking).

        ConfigurationError when it cannot be used. The storage directory is locked before.
        """
        try:
            try:
                os.mkdir(self.path, 0o700)
            except FileExistsError:
                status = os.lstat(self.path)
                # Everybody may write into /tmp: nobody shall make us empty, or fill, a folder of theirs.
                if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                    raise ConfigurationError([f"TemporaryDirectory: {self.path} is not ours"]) from None
            for name in os.listdir(self.path):
                os.unlink(os.path.join(self.path, name))
        except OSError as e:
            raise ConfigurationError([f"TemporaryDirectory: cannot be used: {self._parent}: {e.strerror}"]) from e
