"""Classes of the module ``orthanc`` whose objects are not made by scripts."""

from __future__ import annotations

from typing import Any, Final

from orthanctw.scripting.exposure import exposed_class

_PAIR: Final = 2


def check_constructor(arguments: tuple[Any, ...]) -> None:
    """ValueError unless a constructor gets what only the server can give."""
    if len(arguments) != _PAIR or not all(isinstance(argument, int) for argument in arguments):
        raise ValueError("Expected a pair (pointer, borrowed) in the constructor")


class Hidden:
    """A class that has a name, and nothing that a script could call."""

    def __init__(self, *arguments: Any) -> None:
        check_constructor(arguments)


class DicomWebNode(Hidden):
    """A node of a JSON or XML document of DICOMweb."""


class ServerChunkedRequestReader(Hidden):
    """A request that comes in pieces."""


class WebDavCollection(Hidden):
    """A folder of WebDAV."""


for _each in (DicomWebNode, ServerChunkedRequestReader, WebDavCollection):
    exposed_class(_each)
