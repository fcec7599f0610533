"""Parameters of jobs as JSON and back: remote application entities, and who has asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs

from orthanctw.errors import BadFileFormat
from orthanctw.jobs.contract import Parameters
from orthanctw.model import Origin, OriginKind
from orthanctw.remote import Originator, Remote
from orthanctw.settings.structures import Manufacturer, RetrieveMethod


@contextmanager
def readable() -> Iterator[None]:
    """BadFileFormat when a job cannot be made of its parameters, which another version may have written."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise BadFileFormat("The parameters of the job cannot be read") from e


def remote_to_json(remote: Remote) -> Mapping[str, Any]:
    """A remote application entity as JSON."""
    values = attrs.asdict(remote)
    values["manufacturer"] = remote.manufacturer.value
    values["retrieve_method"] = remote.retrieve_method.value
    return values


def remote_from_json(values: Mapping[str, Any]) -> Remote:
    """What `remote_to_json` wrote. Raises KeyError, TypeError, ValueError for anything else."""
    known = {**values}
    known["manufacturer"] = Manufacturer(known["manufacturer"])
    known["retrieve_method"] = RetrieveMethod(known["retrieve_method"])
    return Remote(**known)


def originator_of(parameters: Parameters) -> Originator | None:
    """Who asked for the C-MOVE that a job carries out, if one did."""
    aet = parameters.get("MoveOriginatorAET")
    return Originator(aet, parameters.get("MoveOriginatorID", 0)) if aet else None


def origin_to_json(origin: Origin) -> Mapping[str, Any]:
    """Who has asked for a job, as JSON."""
    return {**attrs.asdict(origin), "kind": origin.kind.value}


def origin_from_json(values: Mapping[str, Any]) -> Origin:
    """What `origin_to_json` wrote. Raises KeyError, TypeError, ValueError for anything else."""
    return Origin(**{**values, "kind": OriginKind(values["kind"])})
