"""Scripts in place of services of the DICOM server (level 4)."""

from __future__ import annotations

from orthanctw.python_hooks.busy import Busy
from orthanctw.python_hooks.commitment import PythonCommitment
from orthanctw.python_hooks.find import PythonFind, Reading
from orthanctw.python_hooks.move import PythonMove
from orthanctw.python_hooks.worklists import PythonWorklists
from orthanctw.scripting import Host


class PythonServices:
    """What scripts may provide in place of the server; each tells whether there is a script at the moment."""

    def __init__(self, host: Host, reading: Reading, *, case_sensitive_names: bool) -> None:
        busy = Busy(host.options.threads)
        self.commitment = PythonCommitment(host)
        self.find = PythonFind(host, busy, reading)
        self.move = PythonMove(host, busy)
        self.worklists = PythonWorklists(host, busy, reading, case_sensitive_names=case_sensitive_names)
