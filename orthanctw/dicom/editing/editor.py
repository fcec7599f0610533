"""Modification and anonymisation of stored objects, by child processes."""

from __future__ import annotations

import attrs

from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.dictionary import STANDARD, Dictionary
from orthanctw.dicom.editing.modification import Modification
from orthanctw.errors import NotImplementedHere
from orthanctw.interfaces import ISpool, IStorageArea, ITranscoder
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
        raise NotImplementedHere()
