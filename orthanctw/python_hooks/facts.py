"""What scripts can know about the server without asking it (level 4)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping

from orthanctw.configuration import mac_addresses
from orthanctw.scripting.facts import ServerFacts
from orthanctw.settings import Peer, Settings
from orthanctw.system import DATABASE_VERSION, ORTHANC_VERSION


def server_facts(settings: Settings, peers: Callable[[], Mapping[str, Peer]]) -> ServerFacts:
    """The facts of this process."""
    return ServerFacts(
        configuration=json.dumps(dict(settings.document), indent=2, ensure_ascii=False),
        configuration_path=settings.path,
        program=os.path.abspath(sys.argv[0]),
        arguments=tuple(sys.argv[1:]),
        identifier=settings.server_identifier(mac_addresses()),
        version=tuple(int(part) for part in ORTHANC_VERSION.split(".")),
        database_version=DATABASE_VERSION,
        peers=peers,
    )
