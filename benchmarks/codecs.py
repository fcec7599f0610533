"""Codecs of the child processes: frames a second that one process decodes and encodes, in each transfer syntax.

A CT of 512 x 512 pixels of 12 bits, and a colour image of 1024 x 1024 pixels. There is nothing to compare with: the
figures tell which syntax is worth transcoding to.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from benchmarks.pixels import ct_pixels
from orthanctw.dicom.pixels.decode import decode_frame
from orthanctw.dicom.pixels.encode import encoder_for
from orthanctw.dicom.pixels.model import PixelFormat
from orthanctw.dicom.pixels.syntaxes import ENCODABLE


def rate(work: Callable[[], object], seconds: float) -> float:
    """Calls a second."""
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        work()
        count += 1
    return count / (time.perf_counter() - start)


def images() -> list[tuple[str, PixelFormat, Any]]:
    grey = PixelFormat(
        rows=512,
        columns=512,
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=12,
        high_bit=11,
        is_signed=False,
        photometric_interpretation="MONOCHROME2",
    )
    colour = attrs.evolve(
        grey,
        rows=1024,
        columns=1024,
        samples_per_pixel=3,
        bits_allocated=8,
        bits_stored=8,
        high_bit=7,
        photometric_interpretation="RGB",
    )
    ct = np.frombuffer(ct_pixels(), "<u2").reshape(512, 512)
    plane = np.kron((ct >> 4).astype("u1"), np.ones((2, 2), "u1"))
    return [("CT", grey, ct), ("colour", colour, np.stack([plane, plane[::-1], 255 - plane], -1))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    seconds = parser.parse_args().seconds
    print(f"{'image':8} {'transfer syntax':24} {'decoded/s':>10} {'encoded/s':>10} {'ratio':>7}")
    for name, pixels, values in images():
        for syntax in sorted(ENCODABLE):
            encoder = encoder_for(syntax, pixels, pixels.photometric_interpretation, 90)
            if encoder is None:
                continue
            stream = encoder.encode(values)
            held = attrs.evolve(pixels, photometric_interpretation=encoder.photometric_interpretation)
            decoded = rate(lambda held=held, syntax=syntax, stream=stream: decode_frame(held, syntax, stream), seconds)
            encoded = rate(lambda encoder=encoder, values=values: encoder.encode(values), seconds)
            ratio = values.nbytes / len(stream)
            print(f"{name:8} {syntax:24} {decoded:10.0f} {encoded:10.0f} {ratio:7.1f}")


if __name__ == "__main__":
    main()
