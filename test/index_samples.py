"""Objects for tests and benchmarks of the index."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping

from orthanctw.identifiers import hierarchy_ids, normalize_identifier
from orthanctw.model import Attachment, AttachmentType, MetadataType, NewInstance, NewResource, OverwriteMode

DATE = "20260102T030405"
PATIENT_NAME, PATIENT_ID, BIRTH_DATE = 0x00100010, 0x00100020, 0x00100030
STUDY_DATE, ACCESSION, STUDY_DESCRIPTION, STUDY_UID = 0x00080020, 0x00080050, 0x00081030, 0x0020000D
MODALITY, SERIES_UID, SOP_UID, INSTANCE_NUMBER = 0x00080060, 0x0020000E, 0x00080018, 0x00200013


def attachment(
    content_type: int = AttachmentType.DICOM, *, size: int = 1000, compressed: int | None = None, md5: str = ""
) -> Attachment:
    """A file of its own UUID."""
    name = str(uuid.uuid4())
    digest = md5 or hashlib.md5(name.encode()).hexdigest()
    return Attachment(
        content_type=content_type,
        uuid=name,
        size=size,
        md5=digest,
        compressed_size=size if compressed is None else compressed,
        compressed_md5=digest,
    )


def _resource(
    public_id: str, main_tags: Mapping[int, str], searched: Mapping[int, str], metadata: Mapping[int, str]
) -> NewResource:
    search_tags = {tag: normalize_identifier(value) for tag, value in searched.items()}
    return NewResource(public_id=public_id, main_tags=main_tags, search_tags=search_tags, metadata=metadata)


def new_instance(
    patient: str = "P",
    study: str = "1",
    series: str = "1",
    instance: str = "1",
    *,
    name: str = "Doe^John",
    study_date: str = "20260101",
    description: str = "HEAD",
    modality: str = "CT",
    number: str | None = None,
    expected: str | None = None,
    files: tuple[Attachment, ...] | None = None,
    date: str = DATE,
    overwrite: OverwriteMode = OverwriteMode.NEVER,
    skip_quota: bool = False,
) -> NewInstance:
    """An object; `study`, `series` and `instance` become UIDs below those above them."""
    study_uid = f"1.2.{study}"
    series_uid = f"{study_uid}.{series}"
    sop_uid = f"{series_uid}.{instance}"
    patient_id, study_id, series_id, instance_id = hierarchy_ids(patient, study_uid, series_uid, sop_uid)
    of_patient = {PATIENT_NAME: name, PATIENT_ID: patient, BIRTH_DATE: "19700101"}
    of_study = {STUDY_UID: study_uid, STUDY_DATE: study_date, ACCESSION: f"A{study}", STUDY_DESCRIPTION: description}
    of_instance = {SOP_UID: sop_uid, INSTANCE_NUMBER: instance if number is None else number}
    series_metadata = {} if expected is None else {int(MetadataType.EXPECTED_NUMBER_OF_INSTANCES): expected}
    return NewInstance(
        patient=_resource(patient_id, of_patient, of_patient, {}),
        study=_resource(study_id, of_study, of_patient | of_study, {}),
        series=_resource(
            series_id,
            {SERIES_UID: series_uid, MODALITY: modality},
            {SERIES_UID: series_uid, MODALITY: modality},
            series_metadata | {int(MetadataType.REMOTE_AET): "SCU"},
        ),
        instance=_resource(
            instance_id,
            of_instance | {0x00200032: "-125.0\\-125.0\\40.5", 0x00080012: study_date, 0x00200012: "1"},
            {SOP_UID: sop_uid},
            {
                int(MetadataType.INDEX_IN_SERIES): of_instance[INSTANCE_NUMBER],
                int(MetadataType.RECEPTION_DATE): date,
                int(MetadataType.REMOTE_AET): "SCU",
                int(MetadataType.ORIGIN): "DicomProtocol",
                int(MetadataType.TRANSFER_SYNTAX): "1.2.840.10008.1.2.1",
                int(MetadataType.SOP_CLASS_UID): "1.2.840.10008.5.1.4.1.1.2",
                int(MetadataType.REMOTE_IP): "127.0.0.1",
                int(MetadataType.CALLED_AET): "ORTHANC",
                int(MetadataType.PIXEL_DATA_OFFSET): "1234",
            },
        ),
        header=sop_uid.encode() * 20,
        attachments=(attachment(),) if files is None else files,
        date=date,
        overwrite=overwrite,
        skip_quota=skip_quota,
    )


def ids(instance: NewInstance) -> tuple[str, str, str, str]:
    """The public ids of patient, study, series and instance."""
    return (
        instance.patient.public_id,
        instance.study.public_id,
        instance.series.public_id,
        instance.instance.public_id,
    )
