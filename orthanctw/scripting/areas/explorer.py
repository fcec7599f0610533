"""How scripts present themselves."""

from __future__ import annotations

from orthanctw.scripting.exposure import exposed
from orthanctw.scripting.host import Host
from orthanctw.scripting.presentation import PLUGIN


class ExplorerArea:
    """What ``/plugins`` shows. The functions without a number are about the plugin ``python``."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @exposed
    def SetDescription(self, description: str, /) -> None:
        """A text for people."""
        self.SetDescription2(PLUGIN, description)

    @exposed
    def SetDescription2(self, plugin: str, description: str, /) -> None:
        """A text for people."""
        self._host.registering.presentation.describe(plugin, description)

    @exposed
    def SetRootUri(self, uri: str, /) -> None:
        """The page to begin with."""
        self.SetRootUri2(PLUGIN, uri)

    @exposed
    def SetRootUri2(self, plugin: str, uri: str, /) -> None:
        """The page to begin with."""
        self._host.registering.presentation.set_root(plugin, uri)

    @exposed
    def ExtendOrthancExplorer(self, javascript: str, /) -> None:
        """Code for the explorer page, in the place of what this script has given before."""
        self.ExtendOrthancExplorer2(PLUGIN, javascript)

    @exposed
    def ExtendOrthancExplorer2(self, plugin: str, javascript: str, /) -> None:
        """Code for the explorer page, in the place of what this script has given for the plugin before."""
        self._host.registering.presentation.extend(plugin, self._host.script_of_caller(), javascript)
