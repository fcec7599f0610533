"""Scripts in Python and their module ``orthanc`` (level 3: mechanisms).

Everything that a script does happens on threads of its own, never on the reactor's.
"""

from orthanctw.scripting.exchange import Exchange
from orthanctw.scripting.host import Host, ScriptingOptions, ScriptingServices
from orthanctw.scripting.loading import Scripts
from orthanctw.scripting.module import build_module
from orthanctw.scripting.registry import Kind, Registration, Registry, Route

__all__ = [
    "Exchange",
    "Host",
    "Kind",
    "Registration",
    "Registry",
    "Route",
    "ScriptingOptions",
    "ScriptingServices",
    "Scripts",
    "build_module",
]
