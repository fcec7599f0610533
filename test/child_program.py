"""A child whose operations misbehave in all the ways that the pool of processes must stand."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from orthanctw.dicom.pixels.child import main
from orthanctw.errors import BadFileFormat


def echo(header: Mapping[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
    return {**header, "Process": os.getpid()}, payload


def hang(header: Mapping[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
    while True:
        signal.pause()


def die(header: Mapping[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}, b""


def refuse(header: Mapping[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
    raise BadFileFormat("so it is")


def stumble(header: Mapping[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
    raise KeyError("a secret")


def allocate(header: Mapping[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
    return {"Length": len(bytearray(header["Bytes"]))}, b""


def chatter(header: Mapping[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
    os.write(1, b"from a codec\n" * 1000)
    os.write(2, b"from a codec\n" * 1000)
    return {}, b"done"


def lie(header: Mapping[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
    # The other end of the pipe that answers go to.
    for descriptor in range(3, 10):
        try:
            os.write(descriptor, header["Bytes"].encode("latin-1"))
        except OSError:
            continue
    return hang(header, payload)


def descriptors(header: Mapping[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return {"Descriptors": found}, b""


OPERATIONS = {
    function.__name__: function
    for function in (echo, hang, die, refuse, stumble, allocate, chatter, lie, descriptors)
}

if __name__ == "__main__":
    main(sys.argv[1:], OPERATIONS)
