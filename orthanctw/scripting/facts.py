"""What scripts can know about the server without asking it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from orthanctw.settings import Peer


@attrs.frozen(kw_only=True)
class ServerFacts:
    """The server as scripts see it.

    Attributes
    ----------
    configuration : str
        JSON of all that was read, with passwords.
    configuration_path : str
        The file or folder; empty without one.
    program, arguments : str, tuple of str
        What was started, and with which arguments.
    identifier : str
        That of the database.
    version : tuple of int
        Of the Orthanc that clients see.
    database_version : int
    peers : callable
        Those known now, by their names; in any thread.
    """

    configuration: str = attrs.field(default="{}", repr=False)
    configuration_path: str = ""
    program: str = ""
    arguments: tuple[str, ...] = ()
    identifier: str = ""
    version: tuple[int, ...] = (0, 0, 0)
    database_version: int = 0
    peers: Callable[[], Mapping[str, Peer]] = dict
