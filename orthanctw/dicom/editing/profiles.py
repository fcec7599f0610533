"""Profiles of anonymisation (PS3.15 table E.1-1), from a data file."""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

import attrs


class Action(enum.Enum):
    """What becomes of an element."""

    REMOVE = "r"
    CLEAR = "c"
    #: Its UIDs become new ones.
    REPLACE_UID = "u"


#: ``DicomVersion``.
PROFILES: Final = ("2008", "2017c", "2021b", "2023b")
DEFAULT_PROFILE: Final = "2023b"
_NO_ACTION: Final = "-"
#: They name series, instances and frames of reference too, but are not in the table: MultiFrameSourceSOPInstanceUID,
#: FailedSOPInstanceUIDList, TargetFrameOfReferenceUID, SOPInstanceUIDOfConcatenationSource, VolumeFrameOfReferenceUID,
#: TableFrameOfReferenceUID, ReferencedColorPaletteInstanceUID, EquipmentFrameOfReferenceUID.
_REFERENCES: Final = (
    0x00080058,
    0x00081167,
    0x0018991E,
    0x00200242,
    0x00209312,
    0x00209313,
    0x00280304,
    0x300A0675,
)
#: ReferencedFiducialUID names what FiducialUID is.
_FOLLOWERS: Final = {0x0070031B: 0x0070031A}


@attrs.frozen(kw_only=True)
class Profile:
    """What becomes of which tag.

    Parameters
    ----------
    actions : mapping of int to Action
    ranges : tuple of ranges
        First and last group, first and last element of what is removed as well.
    method : str
        End of DeidentificationMethod.
    """

    actions: Mapping[int, Action]
    ranges: tuple[tuple[int, int, int, int], ...]
    method: str

    def action(self, tag: int) -> Action | None:
        """What becomes of the elements with a tag; None when they stay."""
        action = self.actions.get(tag)
        if action is None and self._is_in_range(tag):
            return Action.REMOVE
        return action

    def _is_in_range(self, tag: int) -> bool:
        group, element = tag >> 16, tag & 0xFFFF
        return any(first <= group <= last and low <= element <= high for first, last, low, high in self.ranges)


@functools.cache
def _content() -> Any:
    return json.loads(resources.files("orthanctw.dicom").joinpath("profiles.json").read_text(encoding="utf-8"))


@functools.cache
def profile_of(version: str) -> Profile:
    """The profile of a ``DicomVersion``, one of `PROFILES`."""
    content = _content()
    place = content["versions"].index(version)
    letters = {int(tag, 16): letters[place] for tag, letters in content["tags"].items()}
    actions = {tag: Action(letter) for tag, letter in letters.items() if letter != _NO_ACTION}
    actions.update(dict.fromkeys(_REFERENCES, Action.REPLACE_UID))
    actions.update({tag: actions[leader] for tag, leader in _FOLLOWERS.items() if leader in actions})
    return Profile(
        actions=actions,
        ranges=tuple(
            (int(a, 16), int(b, 16), int(c, 16), int(d, 16)) for a, b, c, d in content["ranges"][version]
        ),
        method=content["methods"][version],
    )
