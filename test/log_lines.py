"""What a server in the process of the tests would write to its log."""

from __future__ import annotations

import io

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from orthanctw.log import LineObserver, LogLevels


def log_lines(case: TestCase, levels: LogLevels) -> io.StringIO:
    """The text that is logged from now until the end of a test, at the levels that are shown then."""
    stream = io.StringIO()
    observer = LineObserver(stream, levels)
    globalLogPublisher.addObserver(observer)
    case.addCleanup(globalLogPublisher.removeObserver, observer)
    return stream
