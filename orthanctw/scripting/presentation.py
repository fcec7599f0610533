"""How scripts present themselves to those who look for plugins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: The name and the release under which scripts are known.
PLUGIN: Final = "python"
RELEASE: Final = "7.1"


class Presentation:
    """What ``/plugins`` tells of scripts; set on their threads."""

    def __init__(self) -> None:
        self._descriptions: dict[str, str] = {}
        self._roots: dict[str, str] = {}
        self._pages: dict[tuple[str, str], str] = {}

    def describe(self, plugin: str, description: str) -> None:
        """A text for people."""
        self._descriptions[plugin] = description

    def set_root(self, plugin: str, uri: str) -> None:
        """The page to begin with."""
        self._roots[plugin] = uri

    def extend(self, plugin: str, script: str, javascript: str) -> None:
        """Code for the explorer page, in the place of what the script has given for the plugin before."""
        self._pages[plugin, script] = javascript

    def shown(self) -> Mapping[str, Any]:
        """``/plugins/python``."""
        shown: dict[str, Any] = {
            "Description": self._descriptions.get(PLUGIN, "Scripts in Python"),
            "ExtendsOrthancExplorer": bool(self._pages),
            "ID": PLUGIN,
            "Version": RELEASE,
        }
        if PLUGIN in self._roots:
            shown["RootUri"] = self._roots[PLUGIN]
        return shown

    def javascript(self) -> str:
        """``/plugins/explorer.js``."""
        pages = list(self._pages.items())
        return "".join(f"// {plugin}: {script}\n{text}\n\n" for (plugin, script), text in pages)
