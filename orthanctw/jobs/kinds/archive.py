"""Making archives (types ``Archive`` and ``Media``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred

from orthanctw.archives.building import ArchiveOptions, Archives
from orthanctw.archives.layout import Layout
from orthanctw.archives.shelf import Shelf
from orthanctw.archives.streaming import Stream
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.interfaces import IReader, ISpool
from orthanctw.jobs.contract import JobKind, Output, OutputFile, Parameters, Position, Step, StepResult
from orthanctw.jobs.kinds.parameters import readable
from orthanctw.threads import shield

ARCHIVE: Final = "Archive"
MEDIA: Final = "Media"
#: Key of the output.
OUTPUT: Final = "archive"
ZIP: Final = "application/zip"
_MEGABYTE: Final = 1024 * 1024
#: Bytes of one step.
_STEP: Final = 2 * _MEGABYTE


@attrs.frozen
class _Work:
    """What a job holds between its steps."""

    made: Layout | Stream
    reader: IReader
    file: ISpool


class ArchiveJob:
    """One archive; each step writes some of it. One that is interrupted begins again. A `Job`.

    Parameters are ``Resources``, ``Options`` and ``Filename``. With ``Streamed`` the archive has gone to a client
    already: the position that it came to, and whether it was all of it.
    """

    def __init__(self, archives: Archives, shelf: Shelf, parameters: Parameters) -> None:
        self._archives = archives
        self._shelf = shelf
        self._resources: Sequence[str] = parameters["Resources"]
        self._options = ArchiveOptions(**parameters["Options"])
        self._file_name: str = parameters["Filename"]
        self._streamed: Mapping[str, Any] | None = parameters.get("Streamed")
        self._work: _Work | None = None
        self._step: Deferred[Step] | None = None

    def content(self, position: Position) -> Mapping[str, Any]:
        size, archive_size = position.get("Size", 0), position.get("ArchiveSize", 0)
        content: dict[str, Any] = {
            "Description": "REST API",
            "InstancesCount": position.get("Instances", 0),
            "UncompressedSize": str(size),
            "UncompressedSizeMB": size // _MEGABYTE,
            "ArchiveSize": str(archive_size),
            "ArchiveSizeMB": archive_size // _MEGABYTE,
            "Utf8": self._options.utf8,
        }
        if self._options.transcode is not None:
            content["Transcode"] = self._options.transcode
        if self._options.lossy_quality is not None:
            content["LossyQuality"] = self._options.lossy_quality
        return content

    async def step(self, position: Position) -> Step:
        # Threads must not find their file closed: who interrupts a step does not end what they are at.
        self._step = Deferred.fromCoroutine(self._carry_out(position))
        return await shield(self._step)

    async def _carry_out(self, position: Position) -> Step:
        if self._streamed is not None:
            if not self._streamed["IsComplete"]:
                raise OrthancError("The archive was not read to its end", code=ErrorCode.NETWORK_PROTOCOL)
            return Step(position=self._streamed["Position"], progress=1.0, result=StepResult.SUCCESS)
        if self._work is None:
            return await self._begin()
        return await self._go_on(self._work, position)

    async def _begin(self) -> Step:
        selected, made = await self._archives.make(self._resources, self._options)
        self._work = _Work(made, self._archives.open(made), self._shelf.begin())
        return Step(position={"Instances": len(selected.names), "Size": selected.size}, progress=0.0)

    async def _go_on(self, work: _Work, position: Position) -> Step:
        await work.file.write(await work.reader.read(_STEP))
        written = {**position, "ArchiveSize": work.file.size}
        if work.reader.remaining:
            return Step(position=written, progress=_progress(work, position))
        await work.file.flush()
        # Kept now, it is no longer ours to discard.
        self._work = None
        work.reader.close()
        return Step(
            position={**written, "File": await self._shelf.keep(work.file)},
            progress=1.0,
            result=StepResult.SUCCESS,
        )

    async def end(self) -> None:
        if self._step is not None and not self._step.called:
            with suppress(OrthancError):
                await shield(self._step)
        work, self._work = self._work, None
        if work is not None:
            work.reader.close()
            await work.file.discard()

    async def output(self, position: Position, key: str) -> Output | None:
        name = position.get("File", "")
        size = self._shelf.size(name) if key == OUTPUT else None
        if size is None:
            return None
        return Output(OutputFile(size, partial(self._shelf.reader, name)), ZIP, self._file_name)

    async def delete_output(self, position: Position, key: str) -> Position | None:
        if key != OUTPUT or not await self._shelf.drop(position.get("File", "")):
            return None
        return {name: value for name, value in position.items() if name != "File"}


def _progress(work: _Work, position: Position) -> float:
    if isinstance(work.made, Layout):
        return float(work.file.size / work.made.size)
    return float(work.made.members / max(1, position["Instances"]))


def archive_parameters(
    resources: Sequence[str],
    options: ArchiveOptions,
    file_name: str,
    streamed: Mapping[str, Any] | None = None,
) -> Parameters:
    """Parameters of a job."""
    parameters: dict[str, Any] = {
        "Resources": list(resources),
        "Options": attrs.asdict(options),
        "Filename": file_name,
    }
    return parameters if streamed is None else {**parameters, "Streamed": streamed}


def archive_kinds(archives: Archives, shelf: Shelf) -> tuple[JobKind, JobKind]:
    """The kinds of jobs that make archives: plain ones, and DICOM file-sets."""

    def make(parameters: Parameters, permissive: bool) -> ArchiveJob:
        with readable():
            return ArchiveJob(archives, shelf, parameters)

    async def forget(position: Position) -> None:
        await shelf.drop(position.get("File", ""))

    def kind(name: str) -> JobKind:
        return JobKind(name=name, make=make, is_saved=False, is_resubmitted=False, forget=forget)

    return kind(ARCHIVE), kind(MEDIA)
