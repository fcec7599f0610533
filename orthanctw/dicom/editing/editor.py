"""Modification and anonymisation of stored objects, by child processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

import attrs
import orjson

from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.dictionary import STANDARD, Dictionary
from orthanctw.dicom.editing.modification import Modification
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.interfaces import ISpool, IStorageArea, ITranscoder
from orthanctw.model import Compression
from orthanctw.processes import ProcessPool
from orthanctw.remote import Outgoing


@attrs.frozen(kw_only=True)
class EditedObject:
    """A changed object, to be given to the ingest; whoever has it discards it afterwards.

    Parameters
    ----------
    content : bytes or ISpool
        The DICOM file.
    identifiers : tuple of str
        PatientID and the UIDs of study, series and instance; of those of the source too.
    transfer_syntax : str
    """

    content: bytes | ISpool
    identifiers: tuple[str, str, str, str]
    source_identifiers: tuple[str, str, str, str]
    transfer_syntax: str

    async def discard(self) -> None:
        """Remove a file that has not become part of the storage area."""
        if not isinstance(self.content, bytes):
            await self.content.discard()


@attrs.frozen(kw_only=True)
class EditorOptions:
    """How objects are edited.

    Parameters
    ----------
    version : str
        Version in DeidentificationMethod.
    deidentification_key : str
        ``DeidentificationKey``.
    default_encoding : DefaultEncoding
        Of objects without SpecificCharacterSet.
    threshold : int
        Larger results, in bytes, are files.
    """

    version: str
    deidentification_key: str = ""
    default_encoding: DefaultEncoding = attrs.Factory(DefaultEncoding)
    threshold: int = 1 << 20


class Editor:
    """Changes objects. Nothing is stored.

    Parameters
    ----------
    transcoder : ITranscoder
        For ``Transcode``.
    """

    def __init__(
        self,
        processes: ProcessPool,
        storage: IStorageArea,
        transcoder: ITranscoder,
        options: EditorOptions,
        dictionary: Dictionary = STANDARD,
    ) -> None:
        self._processes = processes
        self._storage = storage
        self._transcoder = transcoder
        self._options = options
        self._dictionary = dictionary

    @property
    def is_reproducible(self) -> bool:
        """Whether anonymisation gives the same result in every job, PatientName included: then none is to be named."""
        return bool(self._options.deidentification_key)

    async def edit(self, source: Outgoing, modification: Modification, key: bytes) -> EditedObject:
        """Change one object; see `orthanctw.sending.outgoing_of` for stored ones.

        Parameters
        ----------
        key : bytes
            Of the job, 16 random bytes or more: with the same key, an identifier always becomes the same new one.

        Raises
        ------
        BadFileFormat, InexistentTag
            The object cannot be read, or lacks an identifier.
        OrthancError
            Whatever else is wrong with this object; NOT_IMPLEMENTED when it cannot be transcoded.
        """
        transcoded = await self._transcoded(source, modification)
        try:
            return await self._edited(source, transcoded, modification, key)
        finally:
            if transcoded is not source:
                self._transcoder.release(transcoded)

    async def _transcoded(self, source: Outgoing, modification: Modification) -> Outgoing:
        """The object in the wanted transfer syntax: what is lossy makes another instance, which is edited then."""
        if modification.transfer_syntax in ("", source.transfer_syntax):
            return source
        transcoded: Outgoing | None = await self._transcoder.transcode(
            source,
            (modification.transfer_syntax,),
            quality=modification.lossy_quality,
            allows_new_uid=True,
            spools=True,
        )
        if transcoded is None:
            raise OrthancError(
                "An object cannot be had in this transfer syntax", code=ErrorCode.NOT_IMPLEMENTED, http_status=400
            )
        return transcoded

    async def _edited(
        self, source: Outgoing, transcoded: Outgoing, modification: Modification, key: bytes
    ) -> EditedObject:
        options = self._options
        if modification.is_anonymization and options.deidentification_key:
            key = options.deidentification_key.encode("utf-8")
        described = orjson.dumps(modification.to_json())
        output = self._storage.spool_path()
        old_instance = source.sop_instance_uid if transcoded.sop_instance_uid != source.sop_instance_uid else ""
        try:
            header, content = await self._processes.call(
                "edit",
                {
                    "Path": transcoded.path,
                    "StorageCompression": int(Compression.NONE),
                    "ModificationLength": len(described),
                    "Key": key.hex(),
                    "OldInstance": old_instance,
                    "Version": options.version,
                    "Dictionary": self._dictionary.description,
                    "DefaultEncoding": options.default_encoding.name,
                    "Output": output,
                    "Threshold": options.threshold,
                },
                described + (b"" if transcoded.path else transcoded.content),
                unclaimed=lambda: self._remove(output),
            )
        except BaseException:
            # A child that was killed leaves its file behind.
            self._remove(output)
            raise
        return EditedObject(
            content=content or await self._storage.call(self._storage.adopt_blocking, output),
            identifiers=_identifiers(header["New"]),
            source_identifiers=_identifiers(header["Old"]),
            transfer_syntax=header["TransferSyntax"],
        )

    def _remove(self, path: str) -> None:
        self._storage.call(_unlink, path).addErrback(lambda failure: None)


def _identifiers(values: Sequence[str]) -> tuple[str, str, str, str]:
    patient, study, series, instance = values
    return patient, study, series, instance


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
