"""What children that work on images can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from orthanctw.dicom.editing.operation import edit_operation
from orthanctw.dicom.pixels.decode import decode_operation
from orthanctw.dicom.pixels.pictures import array_operation, picture_operation
from orthanctw.dicom.pixels.reading import read_operation
from orthanctw.dicom.pixels.transcode import transcode_operation

Operation = Callable[[Mapping[str, Any], bytes], tuple[Mapping[str, Any], bytes]]

#: By name: a function of the header and the payload of a request, which answers both of the result.
OPERATIONS: Final[Mapping[str, Operation]] = {
    "array": array_operation,
    "decode": decode_operation,
    "edit": edit_operation,
    "picture": picture_operation,
    "read": read_operation,
    "transcode": transcode_operation,
}
