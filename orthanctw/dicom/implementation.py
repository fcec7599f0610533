"""Who we are towards other application entities."""

from __future__ import annotations

from typing import Final

#: Identifies this implementation (PS3.7 annex D.3.3.2): a UUID-derived UID, which nobody has to register.
IMPLEMENTATION_CLASS_UID: Final = "2.25.205312897541094519047261373829604357821"
IMPLEMENTATION_VERSION_NAME: Final = "ORTHANCTW_010"
