"""What tests of modality worklists share: files, queries, a server with a folder of worklists."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

from orthanctw.dicom.uids import WORKLIST_FIND
from test.dicom_queries import Found, QueryCase, keys
from test.rest_samples import item

JAPANESE: Final = "Yamada^Tarou=山田^太郎=やまだ^たろう"
JAPANESE_SETS: Final = ["", "ISO 2022 IR 87"]
POLISH: Final = "WAŁĘSA^LECH"


def step(**values: object) -> Dataset:
    """A scheduled procedure step, by keyword."""
    usual = {"Modality": "MR", "ScheduledStationAETitle": "STATION1", "ScheduledProcedureStepStartDate": "20240115"}
    return item(**{**usual, **values})


def worklist(*steps: Dataset, **values: object) -> bytes:
    """The file of a worklist, by keyword; of one usual step unless others are given."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = "DOE^JOHN", "P1"
    dataset.StudyInstanceUID = "1.2.3"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.ScheduledProcedureStepSequence = list(steps or [step()])
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.276.0.7230010.3.1.0.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def asked(of_step: Mapping[str, object] | None = None, **values: object) -> Dataset:
    """An identifier for PatientID and what is given; `of_step` are keys of the step."""
    identifier = keys("", **{"PatientID": "", **values})
    if of_step is not None:
        with warnings.catch_warnings():
            # Queries have values that objects have not.
            warnings.simplefilter("ignore")
            identifier.ScheduledProcedureStepSequence = [item(**of_step)]
    return identifier


class WorklistCase(QueryCase):
    """A test with a server that serves the folder `lists`, or the index with ``SaveInOrthancDatabase``."""

    SETTINGS: ClassVar[Mapping[str, object]] = {"DicomAlwaysAllowFindWorklist": True}
    #: The section.
    WORKLISTS: ClassVar[Mapping[str, object]] = {}

    async def setUp(self) -> None:
        self.lists = Path(self.mktemp()).absolute()
        self.lists.mkdir()
        await super().setUp()

    async def _start(self, settings: Mapping[str, Any]) -> None:
        section = {"Enable": True, **self.WORKLISTS, **settings.get("Worklists", {})}
        if not section.get("SaveInOrthancDatabase"):
            section.setdefault("Directory", str(self.lists))
        await super()._start({**settings, "Worklists": section})

    def put(self, name: str, *steps: Dataset, **values: object) -> None:
        """Write a file ``NAME.wl`` for the patient of that name."""
        (self.lists / f"{name}.wl").write_bytes(worklist(*steps, **{"PatientID": name, **values}))

    async def ask(self, identifier: Dataset, calling: str = "PYNETDICOM") -> Found:
        """A query of pynetdicom."""
        (found,) = await self.find(identifier, model=WORKLIST_FIND, calling=calling)
        return found

    async def patients(self, identifier: Dataset, calling: str = "PYNETDICOM") -> Sequence[str]:
        """Patients of the worklists that a query finds, which must succeed."""
        found = await self.ask(identifier, calling)
        self.assertEqual((found.status, found.comment), (0, ""))
        return found.values("PatientID")
