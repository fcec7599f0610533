"""Routes that the configuration takes away."""

from __future__ import annotations

import re
from typing import Final

from orthanctw.rest.declaration import Route

_LEVELS: Final = "/(patients|studies|series|instances)/<id>"
#: What changes stored resources, by method and path. Metadata may be written nevertheless, as in Orthanc.
_CHANGING: Final = re.compile(
    "|".join(
        (
            "POST /instances",
            "POST /jobs",
            "POST /tools/(bulk-(delete|modify|anonymize)|reconstruct|invalidate-tags)",
            "POST /(patients|studies|series)/<id>/(modify|anonymize|split|merge)",
            "PUT /patients/<id>/protected",
            f"DELETE {_LEVELS}",
            f"(PUT|DELETE) {_LEVELS}/labels/<.*>",
            f"(PUT|DELETE) {_LEVELS}/attachments/<.*>",
            f"POST {_LEVELS}/attachments/<.*>/(un)?compress",
            f"POST {_LEVELS}/reconstruct",
            "POST /dicom-web/studies.*",
        )
    )
)


def is_available(route: Route, *, read_only: bool, patients: bool) -> bool:
    """Whether a route is offered with ``ReadOnly``, and with or without ``PatientLevelEnabled``."""
    if not patients and route.path.split("/")[1] == "patients":
        return False
    return not (read_only and _CHANGING.fullmatch(f"{route.method} {route.path}"))
