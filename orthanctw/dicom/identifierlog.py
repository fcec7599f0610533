"""Identifiers of queries and retrievals in the log, without what tells of patients (``DeidentifyLogs``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs
from twisted.logger import Logger

from orthanctw.dicom.dictionary import STANDARD, Dictionary, format_tag, is_private
from orthanctw.dicom.editing.modification import IDENTIFIERS, PATIENT_NAME
from orthanctw.dicom.editing.profiles import DEFAULT_PROFILE, profile_of
from orthanctw.dicom.elements import Element, Elements

log = Logger(namespace="orthanctw.dicom")
HIDDEN: Final = "(hidden by DeidentifyLogs)"
#: They are in no profile, since what becomes of them depends on more than one element.
_IDENTIFYING: Final = frozenset({PATIENT_NAME, *IDENTIFIERS.values()})
#: Characters of a value that are shown.
_LONGEST: Final = 200


class IdentifierLog:
    """Logs identifiers as details.

    Parameters
    ----------
    hides : bool
        ``DeidentifyLogs``.
    version : str
        ``DeidentifyLogsDicomVersion``: edition of the profile whose tags are hidden; private ones always are.
    """

    def __init__(
        self, dictionary: Dictionary = STANDARD, *, hides: bool = True, version: str = DEFAULT_PROFILE
    ) -> None:
        self._dictionary = dictionary
        self._hides = hides
        self._version = version

    def received(self, operation: str, aet: str, address: str, identifier: Elements) -> None:
        """Somebody has asked."""
        log.info(
            "{operation} of {aet} at {address}:{identifier}",
            operation=operation,
            aet=aet,
            address=address,
            identifier=_Shown(self, identifier),
        )

    def sent(self, operation: str, aet: str, identifier: Elements) -> None:
        """We ask somebody."""
        log.info(
            "{operation} sent to {aet}:{identifier}", operation=operation, aet=aet, identifier=_Shown(self, identifier)
        )

    def lines(self, identifier: Elements, indent: str = "  ") -> Iterator[str]:
        """A line for each element, and those of items below them."""
        for element in identifier:
            tag, vr, value = element[:3]
            start = f"{indent}({format_tag(tag)}) {self._dictionary.name(tag, None)}"
            if vr == "SQ" and isinstance(value, list):
                yield start
                for item in value:
                    yield from self.lines(item, f"{indent}  ")
            else:
                yield f"{start} = {self._value(tag, element)}"

    def _tells_of_patients(self, tag: int) -> bool:
        return is_private(tag) or tag in _IDENTIFYING or profile_of(self._version).action(tag) is not None

    def _value(self, tag: int, element: Element) -> str:
        value = element[2] if len(element) == 3 else "..."
        if not isinstance(value, str) or not value:
            return ""
        if self._hides and self._tells_of_patients(tag):
            return HIDDEN
        return "".join(character if character.isprintable() else "?" for character in value[:_LONGEST])


@attrs.frozen(repr=False)
class _Shown:
    """Becomes text only if it is logged, and never shows more."""

    owner: IdentifierLog
    identifier: Elements

    def __str__(self) -> str:
        return "".join(f"\n{line}" for line in self.owner.lines(self.identifier))

    __repr__ = __str__
