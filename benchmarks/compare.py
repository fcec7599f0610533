"""Compare the answers of our REST API with those of an installed Orthanc that holds the same files.

Usage: python -m benchmarks.compare [--show N] [FILE...]

Without files, those of pydicom's wheel and of the package pydicom-data are taken. Every reading route that both have
is asked for every resource, with the variants of its arguments; status, content type and content, parsed where it can
be, are compared. What differs for a known reason is counted under it. Ends with status 1 when a difference has none.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import pathlib
import re
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import Any
from xml.etree import ElementTree

import attrs

from benchmarks.common import running
from scripts.compare_tags import default_files, different, explain

LEVELS = ("patients", "studies", "series", "instances")
PARENTS = ("patient", "study", "series")
FORMATS = ("", "?full", "?short", "?simplify")
NOBODY = "00000000-11111111-22222222-33333333-44444444"
METADATA = [
    "IndexInSeries",
    "ReceptionDate",
    "RemoteAET",
    "ExpectedNumberOfInstances",
    "LastUpdate",
    "Origin",
    "TransferSyntax",
]
#: Long texts of pydicom's files, and tags that are short or absent.
LONG = "PatientName,0008-0008,0020-4000,0028-3006,0018-1020,0049-100c,0019-1050,0019-1060"
FILE_PARTS = ["compressed-data", "compressed-md5", "compressed-size", "data", "is-compressed", "md5", "size"]
#: Values that no two servers have in common.
VOLATILE = re.compile(
    r"/(LastUpdate|FileUuid|IsStable|Date|ReceptionDate|Uuid|Version|DatabaseServerIdentifier|HttpPort|DicomPort|Seq)$"
    r"|/metadata/LastUpdate as \S+$|/system/(Name|ThirdParty.*|Performance)$"
)
SORTED_LISTS = re.compile(
    r"^/(patients|studies|series|instances)(\?|$)|/(studies|series|instances|metadata)(\?|$| as )"
)
NATIVE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"
#: In place of what no parser takes.
NO_XML = "no XML"
#: Keys of objects that came after 1.10.1.
NEW_KEYS = frozenset(("Labels", "IsProtected", "OrthanctwVersion", "First"))
NEW_METADATA = frozenset(("MainDicomTagsSignature", "MainDicomSequences", "PixelDataOffset", "PixelDataVR"))
NEW_TAGS = frozenset(
    (
        "TimezoneOffsetFromUTC",
        "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime",
        "0008,0201",
        "0040,0244",
        "0040,0245",
    )
)


#: Differences that are meant: patterns of the place where they are found, and the reason.
REASONS = (
    (r"ignore-length=none failure$", "an unknown tag is the caller's mistake, not the server's"),
    (r"/IndexInSeries$", "absent when it is unknown"),
    (r"PaletteColorLookupTableDescriptor$|/0028,?110[123]$", "numbers are shown whatever their ambiguous VR is"),
    (r"/module\S*/(ModalitiesInStudy|0008,0061)$", "belongs to the study's module"),
    (r"^/patients/\S*/module\b", "tags of the patient that differ between instances"),
    (r"dicom\+json/00400260/Value$|dicom\+xml/00400260/Content$", "items without elements stay"),
    (r"dicom\+(json|xml)/(00189346|00189352)$", "binary values of VR UN are shown whatever their tag"),
    (r"dicom\+(json|xml)/00191050/", "a backslash is a character in UT"),
    (r"dicom\+json/(00431041|00451002)/Value", "numbers next to nothing are 0 in 1.10.1"),
    (r"dicom\+(json|xml)/00280008/", "texts that are no numbers stay"),
    (r"/8f9fa05b\S+ as application/dicom\+(json|xml)/", "a backslash stays one in ISO_IR 13"),
    (r"[?&](limit|since)=(x|-3)\b.* failure$", "a number that is none is refused"),
    (r"/compressed-data head$", "the type of the file, since 1.12"),
    (r"/content/none failure$", "an unknown tag is the caller's mistake, not the server's"),
    (r"/0{8}-\S+/(patient|study|series)(\?full)? failure$", "an unknown resource has no parent: empty, since 1.12"),
    (r"/frames failure$", "frames of an object whose elements all have the VR UN"),
    (r"^lookup", "lookup is to the letter, since 1.12.11"),
    (r"^/system/", "keys that came after 1.10.1"),
    (r"^/changes\?last/Last$", "numbers of objects that only one server took"),
)


@attrs.frozen
class Answer:
    status: int
    content_type: str
    body: bytes

    def value(self) -> Any:
        if "xml" in self.content_type:
            try:
                return xml_value(ElementTree.fromstring(self.body))
            except ElementTree.ParseError:
                return NO_XML
        try:
            return json.loads(self.body.decode("utf-8", "surrogateescape"))
        except ValueError:
            return self.body


def xml_value(element: ElementTree.Element) -> Any:
    """What the JSON of an element of XML would be, as far as it has one."""
    if any(child.tag == NATIVE + "DicomAttribute" for child in element):
        return native_value(element)
    children = [(child.tag.removeprefix(NATIVE), xml_value(child)) for child in element]
    if {name for name, _ in children} == {"item"}:
        return [value for _, value in children]
    return dict(children) if children else element.text


def native_value(element: ElementTree.Element) -> dict[str, Any]:
    """Attributes of the Native DICOM Model by tag (PS3.19 annex A.1), with the digits that 1.10.1 writes."""
    result: dict[str, Any] = {}
    for attribute in element.iterfind(NATIVE + "DicomAttribute"):
        vr = attribute.attrib["vr"]
        content = []
        for child in attribute:
            kind = child.tag.removeprefix(NATIVE)
            if kind == "Value":
                value: Any = native_text(vr, child.text or "")
            elif kind == "PersonName":
                value = [(part.tag, part.text.strip()) for part in child.iter() if (part.text or "").strip()]
            else:
                value = xml_value(child)
            # 1.10.1 has values for items, too, and for what is empty.
            if value or kind == "Item":
                content.append((kind, child.get("number"), value))
        result[attribute.attrib["tag"]] = {"vr": vr, "keyword": attribute.get("keyword"), "Content": content}
    return result


def native_text(vr: str, text: str) -> str:
    """A value; a number as one of 32 bits."""
    if vr in ("DS", "FD", "FL", "IS"):
        try:
            (number,) = struct.unpack("f", struct.pack("f", float(text)))
        except (ValueError, OverflowError):
            return text
        return f"{number if abs(number) > 1e-28 else 0.0:.7g}"
    # A parser makes line feeds of carriage returns that are not escaped.
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


class Client:
    """A connection that is opened anew when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, method: str, path: str, body: bytes | None = None, accept: str = "") -> Answer:
        headers = {"Accept": accept} if accept else {}
        for attempt in (1, 2):
            try:
                self._connection.request(method, path, body, headers)
                answer = self._connection.getresponse()
                return Answer(answer.status, answer.getheader("Content-Type", ""), answer.read())
            except (OSError, http.client.HTTPException):
                self._connection.close()
                if attempt == 2:
                    raise
        raise AssertionError


def resource_routes(level: str, public_id: str) -> Iterator[str]:
    """Reading routes of a resource."""
    base, depth = f"/{level}/{public_id}", LEVELS.index(level)
    for form in FORMATS:
        yield base + form
    yield f"{base}/statistics"
    for child in LEVELS[depth + 1 :]:
        yield f"{base}/{child}"
        yield from (f"{base}/{child}?short", f"{base}/{child}?full", f"{base}/{child}?since=1&limit=1")
    for parent in PARENTS[:depth]:
        yield f"{base}/{parent}"
        yield f"{base}/{parent}?full"
    yield from (f"{base}/metadata", f"{base}/metadata?expand", f"{base}/metadata/none", f"{base}/metadata/3000")
    yield from (f"{base}/metadata/{name}" for name in METADATA)
    yield from (f"{base}/attachments", f"{base}/attachments/none", f"{base}/attachments/3000")
    yield from view_routes(base, level)
    if level == "patients":
        yield f"{base}/protected"
    if level == "instances":
        yield from instance_routes(base)


def view_routes(base: str, level: str) -> Iterator[str]:
    """What is told of several headers."""
    for form in FORMATS:
        yield f"{base}/module{form}"
        if level == "studies":
            yield f"{base}/module-patient{form}"
        if level != "instances":
            yield from (f"{base}/shared-tags{form}", f"{base}/instances-tags{form}")
    yield from (f"{base}/module?ignore-length={LONG}&short", f"{base}/module?ignore-length=none")
    if level != "instances":
        yield f"{base}/instances-tags?simplify&ignore-length={LONG}"
    if level == "series":
        yield f"{base}/ordered-slices"


def other_forms(level: str, public_id: str) -> Iterator[tuple[str, str]]:
    """Paths of a resource, and what is asked for in place of their usual type."""
    base = f"/{level}/{public_id}"
    for accept in ("application/xml", "application/xml, application/json", "text/xml"):
        yield base, accept
    yield f"{base}/statistics", "application/xml"
    yield f"{base}/metadata?expand", "application/xml"
    yield f"{base}/metadata/LastUpdate", "application/xml"
    if level == "instances":
        yield f"{base}/simplified-tags", "application/xml"
        for name in ("dicom+json", "dicom+xml", "dicom", "json", "xml"):
            yield f"{base}/file", f"application/{name}"
    else:
        yield f"{base}/instances", "application/xml"


def instance_routes(base: str) -> Iterator[str]:
    for form in FORMATS:
        yield f"{base}/tags{form}"
        yield f"{base}/header{form}"
    yield from (f"{base}/simplified-tags", f"{base}/simplified-tags?whole", f"{base}/tags?whole&short")
    yield from (f"{base}/tags?short&ignore-length={LONG}", f"{base}/simplified-tags?ignore-length={LONG}")
    yield from (f"{base}/file", f"{base}/frames", f"{base}/content", f"{base}/content/PatientID")
    yield from (f"{base}/content/0008-0099", f"{base}/content/none", f"{base}/content/PatientID/0")
    yield from (f"{base}/attachments/dicom/{part}" for part in FILE_PARTS)


def content_routes(client: Client, base: str, depth: int = 0) -> Iterator[str]:
    """What lies below a path of ``/content``, as this server lists it."""
    if depth > 8:
        return
    names = client.ask("GET", base).value()
    if isinstance(names, list):
        for name in names[:200]:
            yield f"{base}/{name}"
            if len(names) < 40 or depth:
                yield from content_routes(client, f"{base}/{name}", depth + 1)


def general_routes() -> Iterator[str]:
    for level in LEVELS:
        yield from (f"/{level}", f"/{level}?expand", f"/{level}?expand&full", f"/{level}?since=0", f"/{level}?limit=x")
        yield f"/{level}?since=0&limit=-3"
    yield from ("/statistics", "/system", "/tools/nothing", "/nothing", "/exports", "/changes?last", "/changes?limit=x")
    yield from ("/tools/now?x", "/tools/generate-uid", "/tools/generate-uid?level=none", "/tools/log-level", "/app")


def searches() -> Iterator[dict[str, Any]]:
    for level in ("Patient", "Study", "Series", "Instance"):
        for query in (
            {},
            {"PatientID": "*"},
            {"PatientName": "*a*"},
            {"PatientName": "comp^?r^*"},
            {"StudyDate": "20000101-"},
            {"StudyDate": "-20041231"},
            {"StudyDate": "20040101-20091231"},
            {"Modality": "CT\\MR"},
            {"ModalitiesInStudy": "CT"},
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"},
            {"0010-0020": "1CT1"},
            {"PatientSex": "m"},
            {"Rows": "128"},
            {"ImageType": "*PRIMARY*"},
            {"AccessionNumber": ""},
        ):
            yield {"Level": level, "Query": query}


def without_new(value: Any) -> Any:
    """A value of ours without what came after 1.10.1."""
    if isinstance(value, dict):
        return {k: without_new(v) for k, v in value.items() if k not in NEW_KEYS | NEW_METADATA | NEW_TAGS}
    if isinstance(value, list):
        return [without_new(item) for item in value if not isinstance(item, str) or item not in NEW_METADATA]
    return value


def values_differ(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """As `different`, which takes an object with a type for an element: resources have one too."""
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from values_differ(f"{path}[{index}]", one, other)
    elif isinstance(old, dict) and isinstance(new, dict) and "ID" in old:
        for key in sorted({*old, *new}):
            yield from different(f"{path}/{key}", old.get(key, "<absent>"), new.get(key, "<absent>"))
    else:
        yield from different(path, old, new)


def sort_key(item: Any) -> str:
    return str(item.get("ID", item)) if isinstance(item, dict) else str(item)


def compare(
    path: str, theirs: Answer, ours: Answer, unordered: re.Pattern[str] | None = SORTED_LISTS
) -> Iterator[tuple[str, Any, Any]]:
    """Differences of two answers; in lists of paths that are `unordered` the order does not count."""
    old, new = theirs.value(), without_new(ours.value())
    if theirs.status >= 400 or ours.status >= 400:
        old = (theirs.status, old.get("OrthancStatus") if isinstance(old, dict) else old)
        new = (ours.status, new.get("OrthancStatus") if isinstance(new, dict) else new)
        if old != new:
            yield f"{path} failure", old, new
        return
    if (theirs.status, theirs.content_type) != (ours.status, ours.content_type):
        yield f"{path} head", (theirs.status, theirs.content_type), (ours.status, ours.content_type)
    if unordered and unordered.search(path) and isinstance(old, list) and isinstance(new, list):
        old, new = sorted(old, key=sort_key), sorted(new, key=sort_key)
    yield from values_differ(path, without_new(old), new)


class Comparison:
    """Asks both servers and counts what differs.

    Parameters
    ----------
    show : int
        Differences printed of each kind that is not explained.
    volatile : pattern
        Places that are not compared.
    reasons : pairs of a pattern and a text
        Places where the answers differ for this reason.
    unordered : pattern, optional
        Paths of lists whose order does not count.
    """

    def __init__(
        self,
        theirs: Client,
        ours: Client,
        show: int,
        *,
        volatile: re.Pattern[str] = VOLATILE,
        reasons: Iterable[tuple[str, str]] = REASONS,
        unordered: re.Pattern[str] | None = SORTED_LISTS,
    ) -> None:
        self._theirs, self._ours, self._show = theirs, ours, show
        self._volatile, self._reasons, self._unordered = volatile, tuple(reasons), unordered
        #: Every path that was asked by GET.
        self.paths: set[str] = set()
        self.asked = 0
        self.reasons: collections.Counter[str] = collections.Counter()

    def ask(
        self, method: str, path: str, body: bytes | None = None, accept: str = ""
    ) -> tuple[Answer, Answer]:
        self.asked += 1
        if method == "GET":
            self.paths.add(path)
        return self._theirs.ask(method, path, body, accept), self._ours.ask(method, path, body, accept)

    def compare(
        self, method: str, path: str, body: bytes | None = None, label: str = "", accept: str = ""
    ) -> None:
        label = label or (f"{path} as {accept}" if accept else path)
        for place, old, new in compare(label, *self.ask(method, path, body, accept), self._unordered):
            if self._volatile.search(place.partition(" head")[0]):
                continue
            known = (text for pattern, text in self._reasons if re.search(pattern, place))
            reason = next(known, "") or explain(old, new)
            if old == NO_XML:
                reason = "keys that are no names in XML"
            if isinstance(new, str) and "\r" in new and old == new.replace("\r\n", "\n").replace("\r", "\n"):
                reason = "carriage returns survive XML"
            if isinstance(old, bytes) and isinstance(new, bytes) and new.rstrip(b" ") == old:
                reason = "raw bytes are those of the file: surplus padding stays"
            if not reason:
                kind = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}", "ID", place)
                reason = "UNEXPLAINED " + re.sub(r"\d{4},[0-9a-f]{4}|\[\d+\]|[0-9a-f]{4}-[0-9a-f]{4}", "#", kind)[:100]
                if self.reasons[reason] < self._show:
                    print(f"{method} {place}\n    theirs {old!s:.200}\n    ours   {new!s:.200}")
            self.reasons[reason] += 1

    def load(self, files: list[str]) -> int:
        """Upload files to both; answers how many both took as the same object. The others are told and removed."""
        taken = 0
        for name in files:
            old, new = self.ask("POST", "/instances", pathlib.Path(name).read_bytes())
            if old.status == new.status and (old.status != 200 or old.value() == new.value()):
                taken += old.status == 200
                continue
            print(f"{name}:\n    theirs {old.status} {old.body!r:.100}\n    ours   {new.status} {new.body!r:.100}")
            for client, answer in ((self._theirs, old), (self._ours, new)):
                if answer.status == 200 and answer.value()["Status"] == "Success":
                    client.ask("DELETE", answer.value()["Path"])
        return taken

    def run(self) -> None:
        for path in general_routes():
            self.compare("GET", path)
        for level in LEVELS:
            for public_id in [*self._theirs.ask("GET", f"/{level}").value(), NOBODY]:
                for path in resource_routes(level, public_id):
                    self.compare("GET", path)
                for path, accept in other_forms(level, public_id):
                    self.compare("GET", path, accept=accept)
                if level == "instances":
                    for path in content_routes(self._theirs, f"/instances/{public_id}/content"):
                        self.compare("GET", path)
        for search in searches():
            for extra in ({}, {"Expand": True}, {"CaseSensitive": True}):
                body = {**search, **extra}
                self.compare_search(body)
        for text in ("1CT1", "1ct1", "", "*", "none"):
            self.compare("POST", "/tools/lookup", text.encode(), f"lookup {text}")

    def compare_search(self, body: dict[str, Any]) -> None:
        label = f"/instances?find {body['Level']} {body['Query']}"
        self.compare("POST", "/tools/find", json.dumps(body).encode(), label)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", type=int, default=2, help="differences shown of a kind")
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()
    with running("Orthanc") as orthanc, running("orthanctw") as own:
        comparison = Comparison(Client(orthanc.port), Client(own.port), options.show)
        taken = comparison.load(options.files or default_files())
        print(taken, "objects")
        comparison.run()
    print(comparison.asked, "answers compared")
    for reason, count in comparison.reasons.most_common():
        print(f"{count:6} {reason}")
    if any(reason.startswith("UNEXPLAINED") for reason in comparison.reasons):
        sys.exit(1)


if __name__ == "__main__":
    main()
