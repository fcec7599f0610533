"""The DICOM dictionary."""

from __future__ import annotations

from typing import Final

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ParameterOutOfRange, UnknownDicomTag
from orthanctw.scripting.enumerations import enumerations
from orthanctw.scripting.exposure import exposed
from orthanctw.scripting.host import Host
from orthanctw.scripting.objects import DictionaryTag

_NUMBERS: Final = {
    name: number
    for name, number in vars(enumerations()["ValueRepresentation"]).items()
    if isinstance(number, int)
}
_VRS: Final = {number: name for name, number in _NUMBERS.items()}
_LARGEST: Final = 0xFFFF


class DictionaryArea:
    """Looking tags up, and adding some."""

    def __init__(self, host: Host) -> None:
        self._host = host
        # In this load of the scripts: the next one may register the same.
        self._registered: set[DictionaryTag] = set()

    @exposed
    def LookupDictionary(self, name: str, /) -> dict[str, int]:
        """What the dictionary says of a name, or of a tag as text; TypeError if it does not know it."""
        try:
            found = self._host.services.objects.lookup(name)
        except UnknownDicomTag:
            raise TypeError(f"Unknown DICOM tag: {name}") from None
        return {
            "Group": found.tag >> 16,
            "Element": found.tag & _LARGEST,
            "ValueRepresentation": _NUMBERS[found.vr],
            "MinMultiplicity": found.least,
            "MaxMultiplicity": found.most,
        }

    @exposed
    def GetTagName(self, group: int, element: int, private_creator: str, /) -> str:
        """The name of a tag."""
        return self._host.services.objects.name(_tag(group, element), private_creator)

    @exposed
    def RegisterDictionaryTag(
        self, group: int, element: int, vr: int, name: str, min_multiplicity: int, max_multiplicity: int, /
    ) -> None:
        """Add a tag; a greatest multiplicity of 0 is any."""
        self._register(group, element, vr, name, min_multiplicity, max_multiplicity, "")

    @exposed
    def RegisterPrivateDictionaryTag(
        self,
        group: int,
        element: int,
        vr: int,
        name: str,
        min_multiplicity: int,
        max_multiplicity: int,
        private_creator: str,
        /,
    ) -> None:
        """Add a tag of a private creator."""
        if not group & 1:
            raise ParameterOutOfRange("The group of a private tag is odd")
        self._register(group, element, vr, name, min_multiplicity, max_multiplicity, private_creator)

    def _register(self, group: int, element: int, vr: int, name: str, least: int, most: int, creator: str) -> None:
        if vr not in _VRS or not 1 <= least <= _LARGEST or not (most == 0 or least <= most <= _LARGEST):
            raise ParameterOutOfRange("There is no such value representation, or no such multiplicity")
        tag = DictionaryTag(tag=_tag(group, element), vr=_VRS[vr], name=name, least=least, most=most, creator=creator)
        if tag in self._registered:
            raise OrthancError("The script has registered this tag already", code=ErrorCode.ALREADY_EXISTING_TAG)
        self._host.wait(self._host.services.objects.register, tag)
        self._registered.add(tag)


def _tag(group: int, element: int) -> int:
    if not 0 <= group <= _LARGEST or not 0 <= element <= _LARGEST:
        raise ParameterOutOfRange("Group and element have 16 bits")
    return group << 16 | element
