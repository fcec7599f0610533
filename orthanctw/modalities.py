"""The remote modalities: those of the configuration, or those kept in the index (level 4)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

import orjson
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from orthanctw.errors import BadFileFormat, InexistentItem, ParameterOutOfRange
from orthanctw.interfaces import IIndex
from orthanctw.remote import Remote, remote_of
from orthanctw.settings import Modality
from orthanctw.settings.kinds import Place, read
from orthanctw.settings.services import Dicom, Network
from orthanctw.settings.structures import Manufacturer, modality, modality_json

log = Logger(namespace="orthanctw.dicom")
#: Global property of Orthanc that holds the modalities when ``DicomModalitiesInDatabase`` is true.
MODALITIES_PROPERTY: Final = 20
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
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


class Modalities:
    """Modalities by name. What is changed lasts until the next start, or for good when the index keeps them."""

    def __init__(self, index: IIndex, network: Network, dicom: Dicom) -> None:
        self._index = index
        self._in_database = network.dicom_modalities_in_database
        self._dicom = dicom
        self._known: dict[str, Modality] = {} if self._in_database else dict(network.dicom_modalities)
        self._strange: dict[str, Any] = {}
        self._lock = DeferredLock()

    async def load(self) -> None:
        """Read what the index keeps."""
        if not self._in_database:
            return
        text: str | None = await self._index.global_property(MODALITIES_PROPERTY)
        try:
            stored = orjson.loads(text) if text else {}
        except ValueError:
            stored = None
        if not isinstance(stored, dict):
            log.error("The modalities in the index cannot be read")
            return
        for name, value in stored.items():
            try:
                self._known[name] = parse_modality(value)
            except (BadFileFormat, ParameterOutOfRange) as e:
                # Kept as it is: another version may understand it.
                self._strange[name] = value
                log.error("Modality {name} in the index cannot be used: {reason}", name=name, reason=e.details)

    def all(self) -> Mapping[str, Modality]:
        """The modalities known now."""
        return self._known

    def get(self, name: str) -> Modality:
        """A modality. InexistentItem when it is unknown."""
        found = self._known.get(name)
        if found is None:
            raise InexistentItem("No modality of this name")
        return found

    async def put(self, name: str, value: Modality) -> None:
        """Add or replace. BadFileFormat for a name that cannot be one."""
        if not _NAME.match(name):
            raise BadFileFormat("A name has letters, digits, - and _ only")
        await self._keep(name, value)

    async def delete(self, name: str) -> None:
        """Remove. InexistentItem when it is unknown."""
        self.get(name)
        await self._keep(name, None)

    async def _keep(self, name: str, value: Modality | None) -> None:
        """Set or drop one; durable first."""
        await self._lock.acquire()
        try:
            known = {key: other for key, other in self._known.items() if key != name}
            if value is not None:
                known[name] = value
            if self._in_database:
                self._strange.pop(name, None)
                stored = {**self._strange, **configurations(known)}
                await self._index.set_global_property(MODALITIES_PROPERTY, orjson.dumps(stored).decode("utf-8"))
            self._known = known
        finally:
            self._lock.release()

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

    def ignored_keys(self, calling_aet: str, address: str) -> Collection[int]:
        """Tags of its queries that mean nothing."""
        found = self.of_aet(calling_aet)
        return (_VITREA_TAG,) if found is not None and found.manufacturer is Manufacturer.VITREA else ()


def configurations(known: Mapping[str, Modality]) -> dict[str, Any]:
    """What the API shows of modalities."""
    return {name: modality_json(value) for name, value in known.items()}
