"""Which attributes describe which level (PS3.3 sections C.7 and C.12): those of the level's information modules."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import resources

from orthanctw.model import ResourceLevel


@functools.cache
def module_tags() -> Mapping[ResourceLevel, frozenset[int]]:
    """The tags of each level's modules."""
    text = resources.files("orthanctw.dicom").joinpath("query_tags.json").read_text(encoding="utf-8")
    by_title = json.loads(text)
    return {
        level: frozenset(int(tag[:4] + tag[5:], 16) for tag in by_title[level.title]) for level in ResourceLevel
    }
