"""The server, for scripts. Made by scripts/make_python_stub.py; there is no such file at run time."""

from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

_Data: TypeAlias = bytes | bytearray | memoryview | str | None
_Callback: TypeAlias = Callable[..., Any]


class ChangeType:
    COMPLETED_SERIES: int = 0
    DELETED: int = 1
    NEW_CHILD_INSTANCE: int = 2
    NEW_INSTANCE: int = 3
    NEW_PATIENT: int = 4
    NEW_SERIES: int = 5
    NEW_STUDY: int = 6
    STABLE_PATIENT: int = 7
    STABLE_SERIES: int = 8
    STABLE_STUDY: int = 9
    ORTHANC_STARTED: int = 10
    ORTHANC_STOPPED: int = 11
    UPDATED_ATTACHMENT: int = 12
    UPDATED_METADATA: int = 13
    UPDATED_PEERS: int = 14
    UPDATED_MODALITIES: int = 15
    JOB_SUBMITTED: int = 16
    JOB_SUCCESS: int = 17
    JOB_FAILURE: int = 18


class CompressionType:
    ZLIB: int = 0
    ZLIB_WITH_SIZE: int = 1
    GZIP: int = 2
    GZIP_WITH_SIZE: int = 3
    NONE: int = 4


class ConstraintType:
    EQUAL: int = 1
    SMALLER_OR_EQUAL: int = 2
    GREATER_OR_EQUAL: int = 3
    WILDCARD: int = 4
    LIST: int = 5


class ContentType:
    UNKNOWN: int = 0
    DICOM: int = 1
    DICOM_AS_JSON: int = 2
    DICOM_UNTIL_PIXEL_DATA: int = 3


class CreateDicomFlags:
    NONE: int = 0
    DECODE_DATA_URI_SCHEME: int = 1
    GENERATE_IDENTIFIERS: int = 2


class DicomConnection:
    """An association of a peer with the server."""

    def GetConnectionCalledAet(self, /) -> str:
        """The AE title that the peer has called."""

    def GetConnectionRemoteAet(self, /) -> str:
        """The AE title of the peer."""

    def GetConnectionRemoteIp(self, /) -> str:
        """The address of the peer."""


class DicomInstance:
    """A DICOM object.

Parameters
----------
host : Host
content : bytes, or callable
    The file, or what gives it when it is first needed, on the thread of a script; None for an object that there
    is not.
origin : Origin
    Who has sent it.
metadata : mapping of str to str
    By their names.
public_id : str
    Orthanc identifier of a stored object."""

    def GetInstanceAdvancedJson(self, format: int, flags: int, max_string_length: int, /) -> str:
        """The tags as JSON, by the numbers of ``DicomToJsonFormat`` and ``DicomToJsonFlags``."""

    def GetInstanceCalledAet(self, /) -> str:
        """The AE title that the sender has called; empty if it has called none."""

    def GetInstanceData(self, /) -> bytes:
        """The file."""

    def GetInstanceDecodedFrame(self, frame_index: int, /) -> Image:
        """A frame, decoded."""

    def GetInstanceFramesCount(self, /) -> int:
        """Number of frames, 0 for what is no DICOM file."""

    def GetInstanceJson(self, /) -> str:
        """The tags as ``/tags`` shows them."""

    def GetInstanceMetadata(self, metadata: str, /) -> str | None:
        """Metadata of a name; None if there is none."""

    def GetInstanceOrigin(self, /) -> int:
        """Who has sent the object, by the numbers of ``InstanceOrigin``."""

    def GetInstanceRawFrame(self, frame_index: int, /) -> bytes:
        """A frame as it lies in the file."""

    def GetInstanceRemoteAet(self, /) -> str:
        """The AE title of the sender; empty if it has none."""

    def GetInstanceRemoteIp(self, /) -> str:
        """The address of the sender; empty if it has none."""

    def GetInstanceSimplifiedJson(self, /) -> str:
        """The tags as ``/simplified-tags`` shows them."""

    def GetInstanceSize(self, /) -> int:
        """Bytes of the file."""

    def GetInstanceTransferSyntaxUid(self, /) -> str:
        """The transfer syntax."""

    def HasInstanceMetadata(self, metadata: str, /) -> int:
        """1 if there is such metadata."""

    def HasInstancePixelData(self, /) -> int:
        """1 if there is pixel data, -1 for what is no DICOM file."""

    def SerializeDicomInstance(self, /) -> bytes:
        """The file."""


class DicomToJsonFlags:
    NONE: int = 0
    INCLUDE_BINARY: int = 1
    INCLUDE_PRIVATE_TAGS: int = 2
    INCLUDE_UNKNOWN_TAGS: int = 4
    INCLUDE_PIXEL_DATA: int = 8
    CONVERT_BINARY_TO_ASCII: int = 16
    CONVERT_BINARY_TO_NULL: int = 32
    STOP_AFTER_PIXEL_DATA: int = 64
    SKIP_GROUP_LENGTHS: int = 128


class DicomToJsonFormat:
    FULL: int = 1
    SHORT: int = 2
    HUMAN: int = 3


class DicomWebBinaryMode:
    IGNORE: int = 0
    INLINE_BINARY: int = 1
    BULK_DATA_URI: int = 2
    ARRAY_OF_VALUES: int = 3


class DicomWebNode:
    """A node of a JSON or XML document of DICOMweb."""


class ErrorCode:
    INTERNAL_ERROR: int = -1
    SUCCESS: int = 0
    PLUGIN: int = 1
    NOT_IMPLEMENTED: int = 2
    PARAMETER_OUT_OF_RANGE: int = 3
    NOT_ENOUGH_MEMORY: int = 4
    BAD_PARAMETER_TYPE: int = 5
    BAD_SEQUENCE_OF_CALLS: int = 6
    INEXISTENT_ITEM: int = 7
    BAD_REQUEST: int = 8
    NETWORK_PROTOCOL: int = 9
    SYSTEM_COMMAND: int = 10
    DATABASE: int = 11
    URI_SYNTAX: int = 12
    INEXISTENT_FILE: int = 13
    CANNOT_WRITE_FILE: int = 14
    BAD_FILE_FORMAT: int = 15
    TIMEOUT: int = 16
    UNKNOWN_RESOURCE: int = 17
    INCOMPATIBLE_DATABASE_VERSION: int = 18
    FULL_STORAGE: int = 19
    CORRUPTED_FILE: int = 20
    INEXISTENT_TAG: int = 21
    READ_ONLY: int = 22
    INCOMPATIBLE_IMAGE_FORMAT: int = 23
    INCOMPATIBLE_IMAGE_SIZE: int = 24
    SHARED_LIBRARY: int = 25
    UNKNOWN_PLUGIN_SERVICE: int = 26
    UNKNOWN_DICOM_TAG: int = 27
    BAD_JSON: int = 28
    UNAUTHORIZED: int = 29
    BAD_FONT: int = 30
    DATABASE_PLUGIN: int = 31
    STORAGE_AREA_PLUGIN: int = 32
    EMPTY_REQUEST: int = 33
    NOT_ACCEPTABLE: int = 34
    NULL_POINTER: int = 35
    DATABASE_UNAVAILABLE: int = 36
    CANCELED_JOB: int = 37
    BAD_GEOMETRY: int = 38
    SSL_INITIALIZATION: int = 39
    DISCONTINUED_ABI: int = 40
    BAD_RANGE: int = 41
    DATABASE_CANNOT_SERIALIZE: int = 42
    REVISION: int = 43
    MAIN_DICOM_TAGS_MULTIPLY_DEFINED: int = 44
    FORBIDDEN_ACCESS: int = 45
    DUPLICATE_RESOURCE: int = 46
    INCOMPATIBLE_CONFIGURATIONS: int = 47
    SQLITE_NOT_OPENED: int = 1000
    SQLITE_ALREADY_OPENED: int = 1001
    SQLITE_CANNOT_OPEN: int = 1002
    SQLITE_STATEMENT_ALREADY_USED: int = 1003
    SQLITE_EXECUTE: int = 1004
    SQLITE_ROLLBACK_WITHOUT_TRANSACTION: int = 1005
    SQLITE_COMMIT_WITHOUT_TRANSACTION: int = 1006
    SQLITE_REGISTER_FUNCTION: int = 1007
    SQLITE_FLUSH: int = 1008
    SQLITE_CANNOT_RUN: int = 1009
    SQLITE_CANNOT_STEP: int = 1010
    SQLITE_BIND_OUT_OF_RANGE: int = 1011
    SQLITE_PREPARE_STATEMENT: int = 1012
    SQLITE_TRANSACTION_ALREADY_STARTED: int = 1013
    SQLITE_TRANSACTION_COMMIT: int = 1014
    SQLITE_TRANSACTION_BEGIN: int = 1015
    DIRECTORY_OVER_FILE: int = 2000
    FILE_STORAGE_CANNOT_WRITE: int = 2001
    DIRECTORY_EXPECTED: int = 2002
    HTTP_PORT_IN_USE: int = 2003
    DICOM_PORT_IN_USE: int = 2004
    BAD_HTTP_STATUS_IN_REST: int = 2005
    REGULAR_FILE_EXPECTED: int = 2006
    PATH_TO_EXECUTABLE: int = 2007
    MAKE_DIRECTORY: int = 2008
    BAD_APPLICATION_ENTITY_TITLE: int = 2009
    NO_CFIND_HANDLER: int = 2010
    NO_CMOVE_HANDLER: int = 2011
    NO_CSTORE_HANDLER: int = 2012
    NO_APPLICATION_ENTITY_FILTER: int = 2013
    NO_SOP_CLASS_OR_INSTANCE: int = 2014
    NO_PRESENTATION_CONTEXT: int = 2015
    DICOM_FIND_UNAVAILABLE: int = 2016
    DICOM_MOVE_UNAVAILABLE: int = 2017
    CANNOT_STORE_INSTANCE: int = 2018
    CREATE_DICOM_NOT_STRING: int = 2019
    CREATE_DICOM_OVERRIDE_TAG: int = 2020
    CREATE_DICOM_USE_CONTENT: int = 2021
    CREATE_DICOM_NO_PAYLOAD: int = 2022
    CREATE_DICOM_USE_DATA_URI_SCHEME: int = 2023
    CREATE_DICOM_BAD_PARENT: int = 2024
    CREATE_DICOM_PARENT_IS_INSTANCE: int = 2025
    CREATE_DICOM_PARENT_ENCODING: int = 2026
    UNKNOWN_MODALITY: int = 2027
    BAD_JOB_ORDERING: int = 2028
    JSON_TO_LUA_TABLE: int = 2029
    CANNOT_CREATE_LUA: int = 2030
    CANNOT_EXECUTE_LUA: int = 2031
    LUA_ALREADY_EXECUTED: int = 2032
    LUA_BAD_OUTPUT: int = 2033
    NOT_LUA_PREDICATE: int = 2034
    LUA_RETURNS_NO_STRING: int = 2035
    STORAGE_AREA_ALREADY_REGISTERED: int = 2036
    DATABASE_BACKEND_ALREADY_REGISTERED: int = 2037
    DATABASE_NOT_INITIALIZED: int = 2038
    SSL_DISABLED: int = 2039
    CANNOT_ORDER_SLICES: int = 2040
    NO_WORKLIST_HANDLER: int = 2041
    ALREADY_EXISTING_TAG: int = 2042
    NO_STORAGE_COMMITMENT_HANDLER: int = 2043
    NO_CGET_HANDLER: int = 2044
    DICOM_GET_UNAVAILABLE: int = 2045
    UNSUPPORTED_MEDIA_TYPE: int = 3000


class FindAnswers:
    """Answers to a C-FIND. `encode` makes one of a DICOM file or data set; BadFileFormat."""

    def FindAddAnswer(self, dicom: _Data, /) -> None:
        """Answer with all of a DICOM file or data set but its pixels."""

    def FindMarkIncomplete(self, /) -> None:
        """Tell that there are more matches."""


class FindMatcher:
    """A query against which DICOM files are compared. `matches` raises BadFileFormat."""

    def IsMatch(self, dicom: _Data, /) -> int:
        """1 if a DICOM file or data set matches; 0 if not, or if it is none."""


class FindQuery:
    """A C-FIND: its tags in ascending order, each with a name and a value; sequences are empty."""

    def GetFindQuerySize(self, /) -> int:
        """Number of tags."""

    def GetFindQueryTagElement(self, index: int, /) -> int:
        """Element of a tag. ValueError when there is no such index."""

    def GetFindQueryTagGroup(self, index: int, /) -> int:
        """Group of a tag. ValueError when there is no such index."""

    def GetFindQueryTagName(self, index: int, /) -> str:
        """Name of a tag."""

    def GetFindQueryValue(self, index: int, /) -> str:
        """What is asked for."""


class HttpAuthenticationStatus:
    GRANTED: int = 0
    UNAUTHORIZED: int = 1
    FORBIDDEN: int = 2
    REDIRECT: int = 3


class HttpMethod:
    GET: int = 1
    POST: int = 2
    PUT: int = 3
    DELETE: int = 4


class IdentifierConstraint:
    EQUAL: int = 1
    SMALLER_OR_EQUAL: int = 2
    GREATER_OR_EQUAL: int = 3
    WILDCARD: int = 4


class Image:
    """An image in memory."""

    def ConvertPixelFormat(self, target_format: int, /) -> Image:
        """A copy in another pixel format."""

    def DrawText(self, font_index: int, utf8_text: str, x: int, y: int, r: int, g: int, b: int, /) -> None:
        """Draw a text into the image, whose upper left corner is at column `x` and row `y`."""

    def GetImageBuffer(self, /) -> bytes:
        """The pixels, little endian, row by row."""

    def GetImageHeight(self, /) -> int:
        """Number of rows."""

    def GetImagePitch(self, /) -> int:
        """Bytes from one row to the next."""

    def GetImagePixelFormat(self, /) -> int:
        """The number of a ``PixelFormat``."""

    def GetImageWidth(self, /) -> int:
        """Number of columns."""


class ImageFormat:
    PNG: int = 0
    JPEG: int = 1
    DICOM: int = 2


class InstanceOrigin:
    UNKNOWN: int = 1
    DICOM_PROTOCOL: int = 2
    REST_API: int = 3
    PLUGIN: int = 4
    LUA: int = 5
    WEB_DAV: int = 6


class Job:
    """A job made by a plugin. The module has no function that makes one."""

    def SubmitJob(self, priority: int, /) -> NoReturn:
        """Not available: OrthancException."""


class JobStepStatus:
    SUCCESS: int = 1
    FAILURE: int = 2
    CONTINUE: int = 3


class JobStopReason:
    SUCCESS: int = 1
    PAUSED: int = 2
    FAILURE: int = 3
    CANCELED: int = 4


class KeysValuesIterator:
    """The keys of a store in their order, with the values that they have when their turn comes."""

    def GetKey(self, /) -> str | None:
        """The present key; None before the first and after the last one."""

    def GetValue(self, /) -> bytes:
        """The present value."""

    def Next(self, /) -> bool:
        """Go to the next key; False at the end."""


class LoadDicomInstanceMode:
    WHOLE_DICOM: int = 1
    UNTIL_PIXEL_DATA: int = 2
    EMPTY_PIXEL_DATA: int = 3


class LogCategory:
    GENERIC: int = 1
    PLUGINS: int = 2
    HTTP: int = 4
    SQLITE: int = 8
    DICOM: int = 16
    JOBS: int = 32
    LUA: int = 64


class LogLevel:
    ERROR: int = 0
    WARNING: int = 1
    INFO: int = 2
    TRACE: int = 3


class MetricsType:
    DEFAULT: int = 0
    TIMER: int = 1


class OrthancException(Exception):
    """A call of the server has failed; `args` are the number of ``ErrorCode`` and a text."""


class Peers:
    """The peers as they were known at a time, numbered from 0 in the order of their names."""

    def GetPeerName(self, peer_index: int, /) -> str | None:
        """The name of a peer; None when there is no such number."""

    def GetPeerUrl(self, peer_index: int, /) -> str | None:
        """Where a peer is, with a slash at the end."""

    def GetPeerUserProperty(self, peer_index: int, user_property: str, /) -> str | None:
        """A further entry of a peer's configuration; None without it."""

    def GetPeersCount(self, /) -> int:
        """How many there are."""


class PixelFormat:
    GRAYSCALE8: int = 1
    GRAYSCALE16: int = 2
    SIGNED_GRAYSCALE16: int = 3
    RGB24: int = 4
    RGBA32: int = 5
    UNKNOWN: int = 6
    RGB48: int = 7
    GRAYSCALE32: int = 8
    FLOAT32: int = 9
    BGRA32: int = 10
    GRAYSCALE64: int = 11


class QueueOrigin:
    FRONT: int = 0
    BACK: int = 1


class ReceivedInstanceAction:
    KEEP_AS_IS: int = 1
    MODIFY: int = 2
    DISCARD: int = 3


class ResourceType:
    PATIENT: int = 0
    STUDY: int = 1
    SERIES: int = 2
    INSTANCE: int = 3
    NONE: int = 4


class RestOutput:
    """Makes the answer to one request. The first answer counts; what is sent after it, or set, is told in the log.

Parameters
----------
give : callable
    Takes the answer.
send : callable
    Takes bytes of an answer that is a stream, and waits for who reads them."""

    def AnswerBuffer(self, answer: _Data, mime_type: str, /) -> None:
        """Answer with a body."""

    def CompressAndAnswerJpegImage(
        self,
        format: int,
        width: int,
        height: int,
        pitch: int,
        buffer: _Data,
        quality: int,
        /,
    ) -> None:
        """Answer with a JPEG of pixels."""

    def CompressAndAnswerPngImage(self, format: int, width: int, height: int, pitch: int, buffer: _Data, /) -> None:
        """Answer with a PNG of pixels."""

    def Redirect(self, redirection: str, /) -> None:
        """Answer that it is elsewhere (301)."""

    def SendHttpStatus(self, status: int, body: _Data, /) -> None:
        """Answer with a status and a body."""

    def SendHttpStatusCode(self, status: int, /) -> None:
        """Answer with a status alone."""

    def SendMethodNotAllowed(self, allowed_methods: str, /) -> None:
        """Answer that there are other methods (405)."""

    def SendMultipartItem(self, answer: _Data, /) -> None:
        """The next part; waits for the client to take those before."""

    def SendStreamChunk(self, answer: _Data, /) -> None:
        """The next bytes; waits for the client to take those before."""

    def SendUnauthorized(self, realm: str, /) -> None:
        """Ask for credentials (401)."""

    def SetCookie(self, cookie: str, value: str, /) -> None:
        """Add a cookie to the answer."""

    def SetHttpErrorDetails(self, details: str, log: int, /) -> None:
        """Tell the client why, should the callback fail."""

    def SetHttpHeader(self, key: str, value: str, /) -> None:
        """Add a header to the answer."""

    def StartMultipartAnswer(self, sub_type: str, content_type: str, /) -> None:
        """Begin an answer of several parts (RFC 2046 section 5.1), which come by `SendMultipartItem`."""

    def StartStreamAnswer(self, content_type: str, /) -> None:
        """Begin an answer whose body comes by `SendStreamChunk`."""


class ServerChunkedRequestReader:
    """A request that comes in pieces."""


class StableStatus:
    STABLE: int = 0
    UNSTABLE: int = 1


class StorageArea:
    """No function gives one."""

    def Create(self, uuid: str, content: _Data, size: int, type: int, /) -> None:
        """Not there."""

    def Read(self, uuid: str, type: int, /) -> bytes:
        """Not there."""

    def ReconstructMainDicomTags(self, level: int, /) -> None:
        """Not there."""

    def Remove(self, uuid: str, type: int, /) -> None:
        """Not there."""


class StorageCommitmentFailureReason:
    SUCCESS: int = 0
    PROCESSING_FAILURE: int = 1
    NO_SUCH_OBJECT_INSTANCE: int = 2
    RESOURCE_LIMITATION: int = 3
    REFERENCED_SOPCLASS_NOT_SUPPORTED: int = 4
    CLASS_INSTANCE_CONFLICT: int = 5
    DUPLICATE_TRANSACTION_UID: int = 6


class StoreStatus:
    SUCCESS: int = 0
    ALREADY_STORED: int = 1
    FAILURE: int = 2
    FILTERED_OUT: int = 3
    STORAGE_FULL: int = 4


class ValueRepresentation:
    AE: int = 1
    AS: int = 2
    AT: int = 3
    CS: int = 4
    DA: int = 5
    DS: int = 6
    DT: int = 7
    FD: int = 8
    FL: int = 9
    IS: int = 10
    LO: int = 11
    LT: int = 12
    OB: int = 13
    OF: int = 14
    OW: int = 15
    PN: int = 16
    SH: int = 17
    SL: int = 18
    SQ: int = 19
    SS: int = 20
    ST: int = 21
    TM: int = 22
    UI: int = 23
    UL: int = 24
    UN: int = 25
    US: int = 26
    UT: int = 27
    OD: int = 28
    OL: int = 29
    UC: int = 30
    UR: int = 31
    OV: int = 32
    SV: int = 33
    UV: int = 34


class WebDavCollection:
    """A folder of WebDAV."""


class WorklistAnswers:
    """Answers to a query for worklists."""

    def WorklistAddAnswer(self, query: WorklistQuery | None, dicom: _Data, /) -> None:
        """Answer with what a query asks for of a worklist, whether that matches or not."""

    def WorklistMarkIncomplete(self, /) -> None:
        """Tell that there are more matches."""


class WorklistQuery:
    """A query for worklists."""

    def WorklistGetDicomQuery(self, /) -> bytes:
        """The query as a DICOM file."""

    def WorklistIsMatch(self, dicom: _Data, /) -> int:
        """1 if a worklist matches; 0 if not, or if it is no DICOM."""


def AcknowledgeQueueValue(queue_id: str, value_id: int, /) -> None:
    """Remove a value that was reserved."""

def AutodetectMimeType(path: str, /) -> str:
    """The content type of a file, by its name."""

def BufferCompression(source: _Data, compression: int, uncompress: int, /) -> bytes:
    """`source` compressed, or uncompressed, by a number of ``CompressionType``.

    OrthancException for a number of no compression, and for what cannot be uncompressed: what is damaged, and
    zlib without the size.
    """

def CheckVersion() -> int:
    """1: the server has what the module offers."""

def CheckVersionAdvanced(expected_major: int, expected_minor: int, expected_revision: int, /) -> int:
    """1 when the version that clients see is that one or a later one, else 0."""

def ClearCurrentThreadName() -> None:
    """Take the name of the present thread away."""

def CompressJpegImage(format: int, width: int, height: int, pitch: int, buffer: _Data, quality: int, /) -> bytes:
    """A JPEG of grey or RGB of 8 bits; a quality is 1 to 100."""

def CompressPngImage(format: int, width: int, height: int, pitch: int, buffer: _Data, /) -> bytes:
    """A PNG of grey of 8 or 16 bits, RGB24 or RGBA32."""

def ComputeMd5(buffer: _Data, /) -> str:
    """The digest as hexadecimal digits."""

def ComputeSha1(buffer: _Data, /) -> str:
    """The digest in the form of the identifiers of resources."""

def CreateDicom(json: str, pixel_data: Image | None, flags: int, /) -> bytes:
    """A DICOM file of tags as JSON and maybe an image, by the flags of ``CreateDicomFlags``."""

def CreateDicom2(json: str, pixel_data: Image | None, flags: int, private_creator: str, /) -> bytes:
    """As `CreateDicom`; private tags have a creator."""

def CreateDicomInstance(buffer: _Data, /) -> DicomInstance:
    """The object of a DICOM file; what is wrong with it is told when it is used."""

def CreateFindMatcher(query: _Data, /) -> FindMatcher:
    """What compares DICOM files with the keys of a DICOM file or data set."""

def CreateImage(format: int, width: int, height: int, /) -> Image:
    """A black image."""

def CreateImageFromBuffer(format: int, width: int, height: int, pitch: int, buffer: _Data, /) -> Image:
    """An image of a copy of pixels."""

def CreateKeysValuesIterator(store_id: str, /) -> KeysValuesIterator:
    """An iterator over a store, before its first key."""

def DecodeDicomImage(buffer: _Data, frame_index: int, /) -> Image:
    """A frame of a DICOM file."""

def DeleteKeyValue(store_id: str, key: str, /) -> None:
    """Delete a key; nothing happens when it is not there."""

def DequeueValue(queue_id: str, origin: int, /) -> bytes | None:
    """Take a value that nobody has reserved; None when there is none."""

def DicomBufferToJson(buffer: _Data, format: int, flags: int, max_string_length: int, /) -> str:
    """The tags of a DICOM file as JSON, by the numbers of ``DicomToJsonFormat`` and ``DicomToJsonFlags``."""

def DicomInstanceToJson(instance_id: str, format: int, flags: int, max_string_length: int, /) -> str:
    """As `DicomBufferToJson`, of a stored object."""

def EmitAuditLog(
    source_plugin: str,
    user_id: str,
    resource_type: int,
    resource_id: str,
    action: str,
    log_data: _Data,
    /,
) -> None:
    """Tell who has done what, in the log; `log_data` may say anything and is not shown."""

def EnqueueValue(queue_id: str, value: _Data, /) -> None:
    """Append a value."""

def ExtendOrthancExplorer(javascript: str, /) -> None:
    """Code for the explorer page, in the place of what this script has given before."""

def ExtendOrthancExplorer2(plugin: str, javascript: str, /) -> None:
    """Code for the explorer page, in the place of what this script has given for the plugin before."""

def GenerateRestApiAuthorizationToken() -> str:
    """A value of the header ``Authorization``, for programs that call the REST API."""

def GenerateUuid() -> str:
    """A random UUID."""

def GetAttachmentCustomData(attachment_uuid: str, /) -> bytes:
    """What was noted of a file."""

def GetCommandLineArgument(argument: int, /) -> str:
    """An argument of the command line, from 0."""

def GetCommandLineArgumentsCount() -> int:
    """Number of arguments of the command line, without the program."""

def GetConfiguration() -> str:
    """The configuration as JSON, as it was read: all files merged, with passwords."""

def GetConfigurationPath() -> str:
    """The file or folder of the configuration. OrthancException when there is none."""

def GetDatabaseServerIdentifier() -> str:
    """``DatabaseServerIdentifier``."""

def GetDicomForInstance(instance_id: str, /) -> bytes:
    """The file of a stored object."""

def GetErrorDescription(error: int, /) -> str:
    """The text of an error code, of those of scripts, too."""

def GetExpectedDatabaseVersion() -> int:
    """``DatabaseVersion`` of ``/system``."""

def GetFontName(font_index: int, /) -> str | None:
    """The name of a font."""

def GetFontSize(font_index: int, /) -> int:
    """The size of a font in pixels, 0 if there is none."""

def GetFontsCount() -> int:
    """Number of fonts: one."""

def GetGlobalProperty(property: int, default_value: str, /) -> str:
    """A global property, or what is given for one that is not set."""

def GetKeyValue(store_id: str, key: str, /) -> bytes | None:
    """The value of a key, or None."""

def GetOrthancDirectory() -> str:
    """The folder of the program."""

def GetOrthancPath() -> str:
    """The program."""

def GetPeers() -> Peers:
    """The peers as they are known now."""

def GetQueueSize(queue_id: str, /) -> int:
    """The number of values, reserved ones included."""

def GetTagName(group: int, element: int, private_creator: str, /) -> str:
    """The name of a tag."""

def HttpDelete(url: str, username: str | None, password: str | None, /) -> None:
    """A DELETE."""

def HttpGet(url: str, username: str | None, password: str | None, /) -> bytes:
    """The answer to a GET."""

def HttpPost(url: str, body: _Data, username: str | None, password: str | None, /) -> bytes:
    """The answer to a POST."""

def HttpPut(url: str, body: _Data, username: str | None, password: str | None, /) -> bytes:
    """The answer to a PUT."""

def LoadDicomInstance(instance_id: str, mode: int, /) -> DicomInstance:
    """A stored object, by the numbers of ``LoadDicomInstanceMode``: whole, or without its pixel data."""

def LogError(message: str, /) -> None:
    """Log an error."""

def LogInfo(message: str, /) -> None:
    """Log something for those who want to know more."""

def LogMessage(message: str, plugin: str, file: str, line: int, category: int, level: int, /) -> None:
    """Log with a place, by the numbers of ``LogCategory`` and ``LogLevel``."""

def LogWarning(message: str, /) -> None:
    """Log a warning."""

def LookupDictionary(name: str, /) -> dict[str, int]:
    """What the dictionary says of a name, or of a tag as text; TypeError if it does not know it."""

def LookupInstance(sop_instance_u_i_d: str, /) -> str:
    """The instance with a SOPInstanceUID."""

def LookupPatient(patient_i_d: str, /) -> str:
    """The patient with a PatientID."""

def LookupSeries(series_u_i_d: str, /) -> str:
    """The series with a SeriesInstanceUID."""

def LookupStudy(study_u_i_d: str, /) -> str:
    """The study with a StudyInstanceUID."""

def LookupStudyWithAccessionNumber(accession_number: str, /) -> str:
    """The study with an AccessionNumber."""

def ReadFile(path: str, /) -> bytes:
    """The content of a file. OrthancException when it is none, or cannot be read."""

def RegisterDictionaryTag(
    group: int,
    element: int,
    vr: int,
    name: str,
    min_multiplicity: int,
    max_multiplicity: int,
    /,
) -> None:
    """Add a tag; a greatest multiplicity of 0 is any."""

def RegisterErrorCode(code: int, http_status: int, message: str, /) -> None:
    """Add an error: a callback that raises ``OrthancException(code, details)`` is answered with it.

    OrthancException when the status is none of a failure.
    """

def RegisterFindCallback(callback: _Callback, /) -> None:
    """Answer C-FIND, in place of the server."""

def RegisterFindCallback2(callback: _Callback, /) -> None:
    """Answer C-FIND, in place of the server; the callback gets a connection."""

def RegisterIncomingCStoreInstanceFilter(callback: _Callback, /) -> None:
    """Decide which objects are stored that come by C-STORE."""

def RegisterIncomingHttpRequestFilter(callback: _Callback, /) -> None:
    """Decide which requests are let in."""

def RegisterMoveCallback(callback: _Callback, /) -> None:
    """Carry out C-MOVE, in place of the server."""

def RegisterMoveCallback2(
    callback: _Callback,
    get_move_size: _Callback,
    apply_move: _Callback,
    free_move: _Callback,
    /,
) -> None:
    """Carry out C-MOVE, in place of the server, one sub-operation after the other."""

def RegisterMoveCallback3(
    callback: _Callback,
    get_move_size: _Callback,
    apply_move: _Callback,
    free_move: _Callback,
    /,
) -> None:
    """As `RegisterMoveCallback2`; the callback gets a connection."""

def RegisterOnChangeCallback(callback: _Callback, /) -> None:
    """Be told of changes, in their order, on one thread."""

def RegisterOnStoredInstanceCallback(callback: _Callback, /) -> None:
    """Be told of each new instance, after it is stored."""

def RegisterPrivateDictionaryTag(
    group: int,
    element: int,
    vr: int,
    name: str,
    min_multiplicity: int,
    max_multiplicity: int,
    private_creator: str,
    /,
) -> None:
    """Add a tag of a private creator."""

def RegisterReceivedInstanceCallback(callback: _Callback, /) -> None:
    """Keep, change or discard what comes in, before it is stored."""

def RegisterRestCallback(path_regular_expression: str, callback: _Callback, /) -> None:
    """Answer requests whose whole path matches a regular expression; the one registered first wins."""

def RegisterStorageArea(create: _Callback, read: _Callback, remove: _Callback, /) -> None:
    """Keep files in place of the server."""

def RegisterStorageArea3(create: _Callback, read: _Callback, remove: _Callback, /) -> None:
    """Keep files in place of the server, with data of one's own, and read ranges of them."""

def RegisterStorageCommitmentScpCallback(callback: _Callback, lookup: _Callback, /) -> None:
    """Answer requests for storage commitment."""

def RegisterStorageCommitmentScpCallback2(callback: _Callback, lookup: _Callback, /) -> None:
    """Answer requests for storage commitment; the callback gets a connection."""

def RegisterWorklistCallback(callback: _Callback, /) -> None:
    """Answer queries for worklists."""

def RegisterWorklistCallback2(callback: _Callback, /) -> None:
    """Answer queries for worklists; the callback gets a connection."""

def ReserveQueueValue(queue_id: str, origin: int, release_timeout: int, /) -> tuple[bytes | None, int | None]:
    """Hide a value from others for so many seconds: it and its number, or two times None.

    It is gone after `AcknowledgeQueueValue`, and there again after the time.
    """

def RestApiDelete(uri: str, /) -> None:
    """A DELETE."""

def RestApiDeleteAfterPlugins(uri: str, /) -> None:
    """A DELETE, by scripts, too."""

def RestApiGet(uri: str, /) -> bytes:
    """The answer to a GET."""

def RestApiGetAfterPlugins(uri: str, /) -> bytes:
    """The answer to a GET, by scripts, too."""

def RestApiPost(uri: str, body: _Data, /) -> bytes:
    """The answer to a POST."""

def RestApiPostAfterPlugins(uri: str, body: _Data, /) -> bytes:
    """The answer to a POST, by scripts, too."""

def RestApiPut(uri: str, body: _Data, /) -> bytes:
    """The answer to a PUT."""

def RestApiPutAfterPlugins(uri: str, body: _Data, /) -> bytes:
    """The answer to a PUT, by scripts, too."""

def SetAttachmentCustomData(attachment_uuid: str, custom_data: _Data, /) -> None:
    """Note something of a file, in place of what was noted."""

def SetCurrentThreadName(thread_name: str, /) -> None:
    """Name the present thread."""

def SetDescription(description: str, /) -> None:
    """A text for people."""

def SetDescription2(plugin: str, description: str, /) -> None:
    """A text for people."""

def SetGlobalProperty(property: int, value: str, /) -> None:
    """Write a global property; their numbers begin at 1024."""

def SetMetricsIntegerValue(name: str, value: int, type: int, /) -> None:
    """As `SetMetricsValue`."""

def SetMetricsValue(name: str, value: float, type: int, /) -> None:
    """Report a number: the present one, or with ``TIMER`` the greatest of the last 10 s."""

def SetRootUri(uri: str, /) -> None:
    """The page to begin with."""

def SetRootUri2(plugin: str, uri: str, /) -> None:
    """The page to begin with."""

def SetStableStatus(resource_id: str, stable_status: int, /) -> tuple[int, int]:
    """Call a resource stable or unstable: an ``ErrorCode``, and whether that changed something (0 or 1)."""

def StoreKeyValue(store_id: str, key: str, value: _Data, /) -> None:
    """Write a value into a store."""

def TranscodeDicomInstance(buffer: _Data, transfer_syntax: str, /) -> DicomInstance:
    """A DICOM file in another transfer syntax; if that loses anything, it is another instance."""

def UncompressImage(data: _Data, format: int, /) -> Image:
    """The image of a PNG, a JPEG, or the first frame of a DICOM file, by the numbers of ``ImageFormat``."""

def WriteFile(path: str, data: _Data, /) -> None:
    """Write a file, in the place of one that is there. OrthancException when that cannot be."""
