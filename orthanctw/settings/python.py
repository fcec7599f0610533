"""Scripts in Python: the options that Orthanc's plugin has at the top level, and those of its section ``Python``."""

from __future__ import annotations

import attrs

from orthanctw.settings.kinds import boolean, path
from orthanctw.settings.options import ACCEPTED, ADVANCED, WORKS, option, unset


@attrs.frozen(kw_only=True)
class Python:
    """At the top level."""

    python_script: str = unset(
        "PythonScript", path, "", WORKS, "A script in Python (`.py`), run at the start", note="none"
    )
    python_verbose: bool = option(
        "PythonVerbose", boolean, False, WORKS, "Log each module that Python scripts import", sample=ADVANCED
    )


@attrs.frozen(kw_only=True)
class PythonSection:
    """The section."""

    path: str = unset("Path", path, "", WORKS, "As `PythonScript`, which comes first", note="none")
    verbose: bool = option("Verbose", boolean, False, WORKS, "As `PythonVerbose`")
    display_memory_usage: bool = option(
        "DisplayMemoryUsage", boolean, False, WORKS, "Log each second what memory Python's objects take"
    )
    allow_threads: bool = option(
        "AllowThreads",
        boolean,
        False,
        ACCEPTED,
        "Let other scripts run while one calls the server",
        reason="they always may",
    )
