"""Compare our tags, headers and main tags with those of an installed Orthanc, file by file.

Usage: python scripts/compare_tags.py [--orthanc PATH] [--cache FILE] [--show N] [FILE...]

Without files, those of pydicom's wheel and of the package pydicom-data are taken. The answers of Orthanc are kept in
the cache file, so a second run needs no server.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import pathlib
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from orthanctw.dicom import jsonforms, maintags
from orthanctw.dicom.dictionary import STANDARD
from orthanctw.dicom.header import decode, encode
from orthanctw.dicom.scanner import ScannedFile, scan
from orthanctw.errors import OrthancError
from orthanctw.identifiers import hierarchy_ids
from orthanctw.model import ResourceLevel

ROUTES = ("tags", "tags?short", "tags?whole", "simplified-tags", "header", "metadata?expand", "")
LEVELS = ("patient", "study", "series")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A real Orthanc on a free loopback port, with its own storage folder."""

    def __init__(self, program: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.port = free_port()
        config = pathlib.Path(self.folder.name) / "orthanc.json"
        config.write_text(
            json.dumps(
                {
                    "StorageDirectory": self.folder.name,
                    "IndexDirectory": self.folder.name,
                    "HttpPort": self.port,
                    "DicomPort": free_port(),
                    "DicomServerEnabled": False,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "OverwriteInstances": True,
                    "Plugins": [],
                }
            )
        )
        self.process = subprocess.Popen([program, str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                self.get("/system")
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit("the server does not start")

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, data

    def get(self, path: str) -> Any:
        status, data = self.request("GET", path)
        return json.loads(data.decode("utf-8", "surrogateescape")) if status == 200 else {"HttpStatus": status}

    def facts(self, data: bytes) -> dict[str, Any]:
        """What Orthanc answers about one file, which is removed again."""
        status, body = self.request("POST", "/instances", data)
        answer = json.loads(body)
        if status != 200 or "ID" not in answer:
            return {"status": status, "code": answer.get("OrthancStatus")}
        path = f"/instances/{answer['ID']}"
        result: dict[str, Any] = {"status": status, "answer": answer}
        for route in ROUTES:
            result[route] = self.get(f"{path}/{route}" if route else path)
        for level in LEVELS:
            result[level] = self.get(f"{path}/{level}")
        result["series-metadata"] = self.get(f"/series/{answer['ParentSeries']}/metadata?expand")
        self.request("DELETE", path)
        return result

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.folder.cleanup()


def default_files() -> list[str]:
    from pydicom.data import get_testdata_files

    paths = {pathlib.Path(name).resolve() for name in get_testdata_files()}
    return sorted(str(path) for path in paths if path.is_file())


def collect(program: str, files: list[str]) -> dict[str, Any]:
    server = Server(program)
    try:
        results = {}
        for name in files:
            try:
                results[name] = server.facts(pathlib.Path(name).read_bytes())
            except OSError as error:
                print("the server broke off", name, error)
                server.stop()
                server = Server(program)
                results[name] = {"status": -1}
        return results
    finally:
        server.stop()


Difference = tuple[str, Any, Any]
#: Main tags that 1.10.1 did not have.
NEW_MAIN_TAGS = {"TimezoneOffsetFromUTC", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"}


def different(path: str, theirs: Any, ours: Any) -> Iterator[Difference]:
    """Where two JSON values differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        if "Type" in theirs and theirs.get("Type") != "Sequence" and theirs != ours:
            yield path, theirs, ours
            return
        for key in sorted({*theirs, *ours}):
            yield from different(f"{path}/{key}", theirs.get(key, "<absent>"), ours.get(key, "<absent>"))
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for index, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            yield from different(f"{path}[{index}]", one, other)
    elif theirs != ours:
        yield path, theirs, ours


def explain(theirs: Any, ours: Any) -> str:
    """The known reason of a difference, or an empty text."""
    old = theirs.get("Value") if isinstance(theirs, dict) else theirs
    new = ours.get("Value") if isinstance(ours, dict) else ours
    if isinstance(old, str) and isinstance(new, str):
        if old.rstrip(" ") == new:
            return "padding of a text with VR UN is removed"
        if old.replace("\u00a5", "\\") == new:
            return "a backslash stays one in ISO_IR 13"
        if re.fullmatch("[0-9a-f]{4},[0-9a-f]{4}", old) and new.startswith(old + "\\"):
            return "all values of an AT are shown"
        try:
            pairs = zip(map(float, old.split("\\")), map(float, new.split("\\")), strict=True)
            if all(struct.pack("f", one) == struct.pack("f", other) for one, other in pairs):
                return "FL has 9 digits since 1.13.0"
        except (ValueError, OverflowError):
            return ""
    if isinstance(new, str) and isinstance(theirs, dict) and theirs.get("Type") == "TooLong":
        return "FL has 9 digits since 1.13.0"
    if isinstance(theirs, dict) and isinstance(ours, dict) and {**theirs, "PrivateCreator": ""} == {
        **ours,
        "PrivateCreator": "",
    }:
        return "a private creator with VR UN counts"
    if isinstance(new, str) and old is None:
        return "numbers are shown whatever their ambiguous VR is"
    return ""


def main_tags_differences(scanned: ScannedFile, facts: dict[str, Any]) -> Iterator[Difference]:
    main = maintags.MainTags()
    for level in ResourceLevel:
        theirs = facts["" if level is ResourceLevel.INSTANCE else level.title.lower()]["MainDicomTags"]
        values = main.values(scanned, level)
        ours = {STANDARD.name(tag, None): values[tag] for tag in main.tags(level) if tag in values}
        for name in NEW_MAIN_TAGS:
            ours.pop(name, None)
        yield from different(level.title, {name: value.strip() for name, value in theirs.items()}, ours)


def compare(name: str, facts: dict[str, Any]) -> Iterator[Difference]:
    """The differences of one file."""
    theirs: Any = (facts["status"], facts.get("code"))
    try:
        scanned = scan(pathlib.Path(name).read_bytes())
        ids = hierarchy_ids(*scanned.identifiers())
    except OrthancError as error:
        if theirs != (error.http_status, int(error.code)):
            yield "refused", theirs, (error.http_status, int(error.code), str(error))
        return
    if facts["status"] != 200:
        yield "accepted", theirs, (200, None)
        return
    answer = facts["answer"]
    parents = (answer["ParentPatient"], answer["ParentStudy"], answer["ParentSeries"], answer["ID"])
    if ids != parents:
        yield "identifiers", answer["ID"], ids[-1]
    header = decode(encode(scanned))
    form = jsonforms.TagFormat
    yield from different("tags", facts["tags"], jsonforms.tags(header, form.FULL))
    yield from different("short", facts["tags?short"], jsonforms.tags(header, form.SHORT))
    yield from different("simplified", facts["simplified-tags"], jsonforms.tags(header, form.SIMPLIFY))
    yield from different("header", facts["header"], jsonforms.meta_tags(header, form.FULL))
    offset = facts["metadata?expand"].get("PixelDataOffset")
    if (None if offset is None else int(offset)) != scanned.pixel_data_offset:
        yield "PixelDataOffset", offset, scanned.pixel_data_offset
    yield from main_tags_differences(scanned, facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orthanc", default="/usr/sbin/Orthanc")
    parser.add_argument("--cache", type=pathlib.Path)
    parser.add_argument("--show", type=int, default=50)
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()
    if options.cache is not None and options.cache.exists():
        results = json.loads(options.cache.read_text(encoding="utf-8"))
    else:
        results = collect(options.orthanc, options.files or default_files())
        if options.cache is not None:
            options.cache.write_text(json.dumps(results), encoding="utf-8")
    reasons: collections.Counter[str] = collections.Counter()
    shown = 0
    for name, facts in results.items():
        for path, theirs, ours in compare(name, facts):
            reason = explain(theirs, ours) or "unexplained"
            reasons[reason] += 1
            if reason == "unexplained" and shown < options.show:
                shown += 1
                print(f"{pathlib.Path(name).name}: {path}: theirs {theirs!s:.150} ours {ours!s:.150}")
    print(len(results), "files")
    for reason, count in reasons.most_common():
        print(f"{count:6} {reason}")


if __name__ == "__main__":
    main()
