"""From DICOM's identifiers to those of resources."""

from __future__ import annotations

from orthanctw.error_codes import ErrorCode
from orthanctw.identifiers import normalize_identifier
from orthanctw.lookups import Lookup
from orthanctw.model import Constraint, ResourceLevel
from orthanctw.scripting.exposure import exposed, failure
from orthanctw.scripting.host import Host


class LookupArea:
    """``orthanc.Lookup...`` of stored resources. OrthancException unless there is exactly one."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @exposed
    def LookupPatient(self, patient_i_d: str, /) -> str:
        """The patient with a PatientID."""
        return self._one(ResourceLevel.PATIENT, 0x00100020, patient_i_d)

    @exposed
    def LookupStudy(self, study_u_i_d: str, /) -> str:
        """The study with a StudyInstanceUID."""
        return self._one(ResourceLevel.STUDY, 0x0020000D, study_u_i_d)

    @exposed
    def LookupStudyWithAccessionNumber(self, accession_number: str, /) -> str:
        """The study with an AccessionNumber."""
        return self._one(ResourceLevel.STUDY, 0x00080050, accession_number)

    @exposed
    def LookupSeries(self, series_u_i_d: str, /) -> str:
        """The series with a SeriesInstanceUID."""
        return self._one(ResourceLevel.SERIES, 0x0020000E, series_u_i_d)

    @exposed
    def LookupInstance(self, sop_instance_u_i_d: str, /) -> str:
        """The instance with a SOPInstanceUID."""
        return self._one(ResourceLevel.INSTANCE, 0x00080018, sop_instance_u_i_d)

    def _one(self, level: ResourceLevel, tag: int, value: str) -> str:
        constraint = Constraint(tag=tag, level=level, equal=(normalize_identifier(value),))
        lookup = Lookup(level=level, constraints=(constraint,), limit=2)
        found: list[str] = self._host.wait(self._host.services.index.look_up_ids, lookup)
        if len(found) != 1:
            raise failure(ErrorCode.INTERNAL_ERROR, "More than one has it" if found else "None has it")
        return found[0]
