"""Modifications out of the bodies of requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.editing.modification import IDENTIFIERS, Modification
from orthanctw.dicom.editing.paths import TagPath
from orthanctw.dicom.editing.plan import plan_of
from orthanctw.dicom.editing.profiles import DEFAULT_PROFILE, PROFILES
from orthanctw.dicom.uids import TRANSFER_SYNTAXES
from orthanctw.errors import BadFileFormat, BadRequest, ParameterOutOfRange
from orthanctw.model import ResourceLevel

_QUALITIES: Final = range(1, 101)
_IDENTIFIER_TAGS: Final = frozenset(IDENTIFIERS.values())


def parse_modification(
    body: Mapping[str, Any], level: ResourceLevel, dictionary: Dictionary, *, private_creator: str = ""
) -> Modification:
    """What the body of ``/modify`` asks for; other fields than those of the modification itself are left alone.

    Parameters
    ----------
    level : ResourceLevel
        What is modified: see `implied_level` where the route does not tell.
    private_creator : str
        ``DefaultPrivateCreator``.

    Large values take their time: from a few megabytes on, call it on a thread.

    Raises
    ------
    BadRequest
        An identifier without ``Force``, or one that is removed.
    UnknownDicomTag
        A name that is no tag.
    BadFileFormat, BadParameterType, ParameterOutOfRange
        Fields and values of a wrong kind.
    """
    reader = _Reader(body, dictionary, private_creator)
    removes_private = reader.flag("RemovePrivateTags", False)
    return reader.checked(attrs.evolve(reader.modification(level), removes_private=removes_private))


def parse_anonymization(
    body: Mapping[str, Any], level: ResourceLevel, dictionary: Dictionary, *, private_creator: str = ""
) -> Modification:
    """What the body of ``/anonymize`` asks for. As `parse_modification`; see `Modification.named` too."""
    reader = _Reader(body, dictionary, private_creator)
    profile = reader.text("DicomVersion", DEFAULT_PROFILE)
    if profile not in PROFILES:
        raise ParameterOutOfRange("DicomVersion is unknown")
    removes_private = not reader.flag("KeepPrivateTags", False)
    return reader.checked(
        attrs.evolve(
            reader.modification(level), is_anonymization=True, profile=profile, removes_private=removes_private
        )
    )


def implied_level(body: Mapping[str, Any], dictionary: Dictionary) -> ResourceLevel:
    """What is modified by routes of single instances and of many resources: the highest level whose identifier the
    request replaces, unless ``Level`` tells.

    Raises ParameterOutOfRange for an unknown ``Level``, UnknownDicomTag.
    """
    if "Level" in body:
        level = ResourceLevel.parse(_field(body, "Level", str, ""))
        if level is None:
            raise ParameterOutOfRange("Level is unknown")
        return level
    values = body.get("Replace", {})
    # What is no object is refused when it is read.
    replaced = {TagPath.parse(name, dictionary) for name in (values if isinstance(values, dict) else ())}
    return next(
        (level for level, tag in IDENTIFIERS.items() if TagPath((), tag) in replaced), ResourceLevel.INSTANCE
    )


def _field(body: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    if name not in body:
        return default
    value = body[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadFileFormat(f"Field {name} has a wrong type")
    return value


class _Reader:
    def __init__(self, body: Mapping[str, Any], dictionary: Dictionary, private_creator: str) -> None:
        if not isinstance(body, Mapping):
            raise BadFileFormat("The body must be a JSON object")
        self._body = body
        self._dictionary = dictionary
        self._private_creator = self.text("PrivateCreator", private_creator)

    def flag(self, name: str, default: bool) -> bool:
        result: bool = _field(self._body, name, bool, default)
        return result

    def text(self, name: str, default: str) -> str:
        result: str = _field(self._body, name, str, default)
        return result

    def modification(self, level: ResourceLevel) -> Modification:
        """All that both kinds of requests have."""
        modification = Modification(
            level=level,
            replacements=self._replacements(),
            removals=self._paths("Remove"),
            keeps=self._paths("Keep"),
            private_creator=self._private_creator,
            keep_source=self.flag("KeepSource", True),
            keep_labels=self.flag("KeepLabels", False),
            transfer_syntax=self._transfer_syntax(),
            lossy_quality=self._quality(),
        )
        self._check_identifiers(modification)
        return modification

    def checked(self, modification: Modification) -> Modification:
        """The same; what no object can have is refused before any is read."""
        plan_of(modification, self._dictionary, "")
        return modification

    def _paths(self, name: str) -> tuple[TagPath, ...]:
        paths = self._body.get(name, [])
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise BadRequest(f"Field {name} must be a list of tags")
        return tuple(TagPath.parse(path, self._dictionary) for path in paths)

    def _replacements(self) -> tuple[tuple[TagPath, Any], ...]:
        values = self._body.get("Replace", {})
        if not isinstance(values, dict):
            raise BadRequest("Field Replace must be an object")
        return tuple((TagPath.parse(text, self._dictionary), value) for text, value in values.items())

    def _transfer_syntax(self) -> str:
        syntax = self.text("Transcode", "")
        if syntax and syntax not in TRANSFER_SYNTAXES:
            raise ParameterOutOfRange("The transfer syntax is unknown")
        return syntax

    def _quality(self) -> int | None:
        quality: int | None = _field(self._body, "LossyQuality", int, None)
        if quality is not None and quality not in _QUALITIES:
            raise ParameterOutOfRange("LossyQuality must be from 1 to 100")
        return quality

    def _check_identifiers(self, modification: Modification) -> None:
        is_forced = self.flag("Force", False)
        paths = (*modification.keeps, *modification.removals, *(path for path, _ in modification.replacements))
        if not is_forced and any(not path.steps and path.tag in _IDENTIFIER_TAGS for path in paths):
            raise BadRequest("DICOM identifiers are only changed with Force")
        if any(modification.removes_tag(tag) for tag in _IDENTIFIER_TAGS):
            raise BadRequest("DICOM identifiers cannot be removed")
