"""Arguments and fields that several routes have, each declared once."""

from __future__ import annotations

from typing import Final

from orthanctw.rest.declaration import Argument

FULL: Final = Argument("full", "flag", "Tags with their numbers, names and types")
SHORT: Final = Argument("short", "flag", "Tags by their numbers only")
SIMPLIFY: Final = Argument("simplify", "flag", "Tags by their names only")
EXPAND: Final = Argument("expand", "boolean", "Objects instead of their identifiers")
SINCE: Final = Argument("since", "integer", "How many are skipped")
LIMIT: Final = Argument("limit", "integer", "How many are answered at most")

FILENAME: Final = Argument("filename", "string", "Name that the download is given")
TRANSCODE: Final = Argument("transcode", "string", "UID of the transfer syntax that is wanted")
LOSSY_QUALITY: Final = Argument("lossy-quality", "quality", "Quality of lossy compression, if it comes to that")

RANGE: Final = Argument("Range", "string", "The part that is wanted, as bytes=FIRST-LAST")
IF_NONE_MATCH: Final = Argument("If-None-Match", "string", "ETag of the version that the client has")

RESOURCES: Final = Argument("Resources", "strings", "Identifiers of resources of any level", required=True)
TIMEOUT: Final = Argument("Timeout", "integer", "Seconds without an answer after which the other side is given up")
LOCAL_AET: Final = Argument("LocalAet", "string", "Our AE title towards the other side")

#: What every request for a job may say.
SUBMISSION: Final = (
    Argument("Synchronous", "boolean", "Whether the answer waits for the end of the job"),
    Argument("Asynchronous", "boolean", "The contrary, when Synchronous is not given"),
    Argument("Priority", "signed", "Jobs of a higher priority are begun first"),
)
#: The same, and what jobs of several steps take.
JOB: Final = (
    *SUBMISSION,
    Argument("Permissive", "boolean", "Whether the job goes on after a step that fails"),
    Argument("UserData", "any", "Kept with the job and shown with it"),
)
