"""DICOM files and objects."""

from __future__ import annotations

from orthanctw.errors import ParameterOutOfRange
from orthanctw.scripting.exposure import Data, exposed, gives_object
from orthanctw.scripting.host import Host
from orthanctw.scripting.images import Image
from orthanctw.scripting.instances import DicomInstance
from orthanctw.scripting.objects import WHOLE_DICOM, JsonForm


class DicomArea:
    """Making, reading, showing and transcoding DICOM files."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @exposed
    def CreateDicom(self, json: str, pixel_data: Image | None, flags: int, /) -> bytes:
        """A DICOM file of tags as JSON and maybe an image, by the flags of ``CreateDicomFlags``."""
        return self._created(json, pixel_data, flags, "")

    @exposed
    def CreateDicom2(self, json: str, pixel_data: Image | None, flags: int, private_creator: str, /) -> bytes:
        """As `CreateDicom`; private tags have a creator."""
        return self._created(json, pixel_data, flags, private_creator)

    def _created(self, tags: str, image: Image | None, flags: int, creator: str) -> bytes:
        picture = None if image is None else image.raster
        return self._host.services.objects.created(tags, picture, flags, creator)

    @exposed
    def CreateDicomInstance(self, buffer: Data, /) -> DicomInstance:
        """The object of a DICOM file; what is wrong with it is told when it is used."""
        return DicomInstance(self._host, buffer)

    @exposed
    @gives_object
    def LoadDicomInstance(self, instance_id: str, mode: int, /) -> DicomInstance:
        """A stored object, by the numbers of ``LoadDicomInstanceMode``: whole, or without its pixel data."""
        content = self._host.wait(self._host.services.objects.load, instance_id, mode)
        return DicomInstance(self._host, content, public_id=instance_id)

    @exposed
    @gives_object
    def TranscodeDicomInstance(self, buffer: Data, transfer_syntax: str, /) -> DicomInstance:
        """A DICOM file in another transfer syntax; if that loses anything, it is another instance."""
        objects = self._host.services.objects
        content = self._host.wait(objects.transcoded, objects.header(buffer), buffer, transfer_syntax)
        return DicomInstance(self._host, content)

    @exposed
    @gives_object
    def DicomBufferToJson(self, buffer: Data, format: int, flags: int, max_string_length: int, /) -> str:
        """The tags of a DICOM file as JSON, by the numbers of ``DicomToJsonFormat`` and ``DicomToJsonFlags``."""
        return self._json(buffer, format, flags, max_string_length)

    @exposed
    @gives_object
    def DicomInstanceToJson(self, instance_id: str, format: int, flags: int, max_string_length: int, /) -> str:
        """As `DicomBufferToJson`, of a stored object."""
        content: bytes = self._host.wait(self._host.services.objects.load, instance_id, WHOLE_DICOM)
        return self._json(content, format, flags, max_string_length)

    def _json(self, content: bytes, format: int, flags: int, maximum_length: int) -> str:
        if maximum_length < 0:
            raise ParameterOutOfRange("A length is not negative")
        form = JsonForm(format=format, flags=flags, maximum_length=maximum_length)
        objects = self._host.services.objects
        return objects.json(objects.header(content), content, form)

    @exposed
    def GetDicomForInstance(self, instance_id: str, /) -> bytes:
        """The file of a stored object."""
        content: bytes = self._host.wait(self._host.services.objects.load, instance_id, WHOLE_DICOM)
        return content
