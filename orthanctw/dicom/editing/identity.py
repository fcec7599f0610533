"""New identifiers that depend on a key and on the old ones alone.

So all objects of one job agree on them without knowing of each other, and do so again when the job is repeated.
"""

from __future__ import annotations

import hmac
import uuid
from typing import Final

#: UIDs that the standard registers: SOP classes, transfer syntaxes, well-known frames of reference (PS3.6 annex A).
_REGISTERED: Final = "1.2.840.10008."
_NAME_DIGITS: Final = 8


def is_registered(uid: str) -> bool:
    """Whether the standard gives a UID its meaning: it names nothing of a patient."""
    return uid.startswith(_REGISTERED)


class Pseudonyms:
    """New identifiers.

    Parameters
    ----------
    key : bytes
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def uid(self, old: str) -> str:
        """A UID (PS3.5 section B.2). Whatever an old one names, it becomes the same: references need not tell."""
        return f"2.25.{self._uuid('uid', old).int}"

    def patient(self, old: str) -> str:
        """A PatientID, or the name of somebody else, in the form of a UUID."""
        return str(self._uuid("patient", old))

    def name(self, patient_id: str) -> str:
        """The PatientName of who had this PatientID."""
        return "Anonymized" + self._digest("name", patient_id).hex()[:_NAME_DIGITS]

    def _uuid(self, kind: str, old: str) -> uuid.UUID:
        return uuid.UUID(bytes=self._digest(kind, old)[:16], version=4)

    def _digest(self, kind: str, old: str) -> bytes:
        return hmac.digest(self._key, f"{kind}|{old}".encode("utf-8", "surrogateescape"), "sha256")
