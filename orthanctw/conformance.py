"""What the server says of itself in DICOM's terms, as text (PS3.2) (level 4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import attrs

from orthanctw.acceptance import Acceptance
from orthanctw.dicom.commitment import STORAGE_COMMITMENT
from orthanctw.dicom.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from orthanctw.dicom.uids import (
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    TRANSFER_SYNTAXES,
    VERIFICATION,
    WORKLIST_FIND,
)

_AS_USER = {
    "Echo": (VERIFICATION,),
    "Store": (),
    "Find": (PATIENT_ROOT_FIND, STUDY_ROOT_FIND, WORKLIST_FIND),
    "Move": (PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE),
    "Get": (PATIENT_ROOT_GET, STUDY_ROOT_GET),
    "Storage Commitment": (STORAGE_COMMITMENT,),
}
_STORED = "Objects of all classes that are stored can be sent by C-STORE, in the transfer syntax of their file."
_CONVERTED = "What a peer does not take in that syntax is transcoded for it where that is possible."
_UNKNOWN = "Storage SOP classes that are not listed are accepted, too."


@attrs.frozen
class Service:
    """A service that is provided: its SOP classes, and their transfer syntaxes."""

    name: str
    sop_classes: tuple[str, ...]
    transfer_syntaxes: frozenset[str]


class Conformance:
    """The statement, as things are when it is asked for.

    Parameters
    ----------
    provided : sequence of Service
        All but storage, which `acceptance` knows; None when the DICOM server is off.
    """

    def __init__(
        self, acceptance: Acceptance, provided: Sequence[Service] | None, *, aet: str, transcoding: bool
    ) -> None:
        self._acceptance = acceptance
        self._provided = provided
        self._aet = aet
        self._transcoding = transcoding

    def statement(self) -> str:
        """The text. Takes a while the first time, since pydicom's names of UIDs are read."""
        lines = [*_title("DICOM conformance statement of orthanctw", "="), ""]
        lines += _table("Identification", self._identification())
        lines += self._as_provider()
        lines += self._as_user()
        return "\n".join(lines) + "\n"

    def _identification(self) -> list[tuple[str, str]]:
        return [
            ("Application entity title", self._aet),
            ("Implementation class UID", IMPLEMENTATION_CLASS_UID),
            ("Implementation version name", IMPLEMENTATION_VERSION_NAME),
        ]

    def _as_provider(self) -> Iterator[str]:
        if self._provided is None:
            yield from [*_title("SCP"), "", "The DICOM server is off: nothing is provided.", "", ""]
            return
        for service in self._provided:
            yield from _table(f"{service.name} SCP", _named(service.sop_classes))
            yield from _syntaxes(service.transfer_syntaxes)
        acceptance = self._acceptance
        note = _UNKNOWN if acceptance.unknown_sop_class_accepted else ""
        yield from _table("Store SCP", _named(acceptance.sop_classes), note)
        yield from _syntaxes(acceptance.transfer_syntaxes)

    def _as_user(self) -> Iterator[str]:
        for name, sop_classes in _AS_USER.items():
            note = ""
            if not sop_classes:
                note = f"{_STORED}\n{_CONVERTED}" if self._transcoding else _STORED
            yield from _table(f"{name} SCU", _named(sop_classes), note)


def _title(text: str, line: str = "-") -> list[str]:
    return [line * len(text), text, line * len(text)]


def _named(uids: Iterable[str]) -> list[tuple[str, str]]:
    from pydicom.uid import UID

    return sorted((UID(uid).keyword or "-", uid) for uid in uids)


def _syntaxes(uids: Iterable[str]) -> Iterator[str]:
    chosen = set(uids)
    yield "Transfer syntaxes; of several that are proposed the first one of this list is taken:"
    yield ""
    names = {uid: name for name, uid in _named(chosen)}
    yield from _rows([(names[uid], uid) for uid in TRANSFER_SYNTAXES if uid in chosen])
    yield ""


def _table(title: str, rows: Sequence[tuple[str, str]], note: str = "") -> Iterator[str]:
    yield from [*_title(title), ""]
    if note:
        yield from [*note.splitlines(), ""]
    if rows:
        yield from _rows(rows)
        yield ""


def _rows(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    width = max((len(name) for name, _ in rows), default=0)
    yield from (f"  {name:<{width}} | {value}" for name, value in rows)
