"""The order of the slices of a series (level 4)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from orthanctw.dicom.frames import PixelFacts
from orthanctw.model import MetadataType, Resource

_POSITION: Final = 0x00200032
_ORIENTATION: Final = 0x00200037
#: Slices closer together than this lie at the same place, in mm.
_SAME: Final = 1e-4
#: Frames that an object may tell of without having them.
_BELIEVED: Final = 4096


def in_order(instances: Sequence[Resource]) -> list[Resource]:
    """Instances by their place along the normal of their common plane, else by IndexInSeries, else as they came.

    Positions count when every instance has one, all have one orientation, and no two lie at the same place
    (PS3.3 section C.7.6.2.1.1).
    """
    return volume(instances) or _in_sequence(instances)


def volume(instances: Sequence[Resource]) -> list[Resource]:
    """Several instances by their place in space; empty when that gives them no order."""
    distances = _distances(instances) if len(instances) > 1 else None
    if distances is None:
        return []
    pairs = sorted(zip(distances, range(len(instances)), strict=True))
    return [instances[place] for _, place in pairs]


def frame_count(pixels: PixelFacts | None) -> int:
    """NumberOfFrames; one that is large is believed only as far as the pixel data can hold so many."""
    if pixels is None:
        return 1
    fragments = pixels.lengths
    held = pixels.length * 8 // (pixels.frame_bits or 8) if fragments is None else len(fragments) - 1
    return min(pixels.frames, max(held, _BELIEVED))


def _in_sequence(instances: Sequence[Resource]) -> list[Resource]:
    numbers = [_index_in_series(instance) for instance in instances]
    order = sorted(range(len(instances)), key=lambda place: (numbers[place] is None, numbers[place] or 0, place))
    return [instances[place] for place in order]


def _index_in_series(instance: Resource) -> int | None:
    value = instance.metadata.get(MetadataType.INDEX_IN_SERIES)
    try:
        return None if value is None else int(value.value)
    except ValueError:
        return None


def _vector(text: str | None, size: int) -> list[float] | None:
    try:
        values = [float(item) for item in (text or "").split("\\")]
    except ValueError:
        return None
    return values if len(values) == size and all(value - value == 0 for value in values) else None


def _distances(instances: Sequence[Resource]) -> list[float] | None:
    normal: list[float] | None = None
    distances = []
    for instance in instances:
        position = _vector(instance.main_tags.get(_POSITION), 3)
        axes = _vector(instance.main_tags.get(_ORIENTATION), 6)
        if position is None or axes is None:
            return None
        (a, b, c), (d, e, f) = axes[:3], axes[3:]
        own = [b * f - c * e, c * d - a * f, a * e - b * d]
        if normal is None:
            normal = own
        elif any(abs(one - other) > 1e-3 for one, other in zip(normal, own, strict=True)):
            return None
        distances.append(sum(one * other for one, other in zip(normal, position, strict=True)))
    ordered = sorted(distances)
    if any(after - before < _SAME for before, after in itertools.pairwise(ordered)):
        return None
    return distances
