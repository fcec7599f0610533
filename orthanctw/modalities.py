"""The remote modalities: those of the configuration, or those kept in the index (level 4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from orthanctw.errors import BadFileFormat, ParameterOutOfRange
from orthanctw.interfaces import IIndex
from orthanctw.known import Kept, Known
from orthanctw.remote import Remote, remote_of
from orthanctw.settings import Modality
from orthanctw.settings.kinds import Place, read
from orthanctw.settings.services import Dicom, Network
from orthanctw.settings.structures import Manufacturer, modality, modality_json

#: Global property of Orthanc that holds the modalities when ``DicomModalitiesInDatabase`` is true.
MODALITIES_PROPERTY: Final = 20
#: What problems with values that are out of range begin with.
_RANGED: Final = ("Port: a number", "Manufacturer: one of")
#: A private tag that Vitrea sends and nobody answers.
_VITREA_TAG: Final = 0x56530010


def parse_modality(value: object) -> Modality:
    """A modality of a request.

    Raises BadFileFormat, with every problem, when it cannot be used; ParameterOutOfRange when only the values of its
    port or manufacturer are none.
    """
    place = Place()
    parsed = read(modality, value, place)
    if parsed is not None and not place.problems:
        return parsed
    if place.problems and all(problem.startswith(_RANGED) for problem in place.problems):
        raise ParameterOutOfRange("; ".join(place.problems))
    raise BadFileFormat("; ".join(place.problems) or "Not a modality")


class Modalities(Known[Modality]):
    """Modalities by name."""

    def __init__(self, index: IIndex, network: Network, dicom: Dicom) -> None:
        kept = Kept(title="Modalities", number=MODALITIES_PROPERTY, parse=parse_modality, write=modality_json)
        super().__init__(index, kept if network.dicom_modalities_in_database else None, network.dicom_modalities)
        self._dicom = dicom

    def remote(self, value: Modality, *, local_aet: str = "", timeout: int | None = None) -> Remote:
        """How a modality is addressed now."""
        return remote_of(
            value,
            default_aet=self._dicom.dicom_aet,
            default_timeout=self._dicom.dicom_scu_timeout,
            local_aet=local_aet,
            timeout=timeout,
        )

    def of_aet(self, aet: str) -> Modality | None:
        """The modality of an AE title, or None."""
        strict = self._dicom.strict_aet_comparison
        for value in self._known.values():
            if value.aet == aet or (not strict and value.aet.upper() == aet.upper()):
                return value
        return None

    def remote_of_aet(self, aet: str) -> Remote | None:
        """How the modality of an AE title is addressed now, or None."""
        found = self.of_aet(aet)
        return None if found is None else self.remote(found)

    def manufacturer_of(self, aet: str) -> str:
        """The manufacturer of the modality of an AE title."""
        found = self.of_aet(aet)
        return (Manufacturer.GENERIC if found is None else found.manufacturer).value

    def ignored_keys(self, calling_aet: str, address: str) -> Collection[int]:
        """Tags of its queries that mean nothing."""
        found = self.of_aet(calling_aet)
        return (_VITREA_TAG,) if found is not None and found.manufacturer is Manufacturer.VITREA else ()


def configurations(known: Mapping[str, Modality]) -> dict[str, Any]:
    """What the API shows of modalities."""
    return {name: modality_json(value) for name, value in known.items()}
