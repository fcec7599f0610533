"""The module ``orthanc``, put together."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from orthanctw.scripting.areas.logs import LogArea
from orthanctw.scripting.areas.registration import RegistrationArea
from orthanctw.scripting.areas.rest import RestArea
from orthanctw.scripting.enumerations import enumerations
from orthanctw.scripting.exposure import OrthancException, exposed_functions
from orthanctw.scripting.host import Host

_AREAS: Final[tuple[Any, ...]] = (LogArea, RegistrationArea, RestArea)


def build_module(host: Host) -> ModuleType:
    """A new module with the functions and classes that scripts use."""
    module = ModuleType("orthanc", "The server, for scripts.")
    content = vars(module)
    content.update(enumerations())
    content["OrthancException"] = OrthancException
    for area in _AREAS:
        content.update(exposed_functions(area(host)))
    return module
