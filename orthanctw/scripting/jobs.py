"""Jobs as scripts see them."""

from __future__ import annotations

from typing import NoReturn

from orthanctw.error_codes import ErrorCode
from orthanctw.scripting.exposure import exposed, exposed_class, failure
from orthanctw.scripting.hidden import Hidden


class Job(Hidden):
    """A job made by a plugin. The module has no function that makes one."""

    @exposed
    def SubmitJob(self, priority: int, /) -> NoReturn:
        """Not available: OrthancException."""
        raise failure(ErrorCode.NOT_IMPLEMENTED, "Scripts cannot make jobs; the REST API starts those of the server")


exposed_class(Job)
