"""The error codes of the Orthanc REST API: number, name, HTTP status, meaning (level 0: values)."""

from __future__ import annotations

import enum


class ErrorCode(enum.IntEnum):
    """``OrthancStatus`` of an error body, with its default HTTP status and a text of ours."""

    http_status: int
    message: str

    def __new__(cls, code: int, http_status: int, message: str) -> ErrorCode:
        member = int.__new__(cls, code)
        member._value_ = code
        member.http_status = http_status
        member.message = message
        return member

    @classmethod
    def of(cls, code: int) -> ErrorCode:
        """The member of a number; INTERNAL_ERROR for one that is not known."""
        found = cls._value2member_map_.get(code)
        return found if isinstance(found, cls) else cls.INTERNAL_ERROR

    INTERNAL_ERROR = (-1, 500, "Unexpected internal failure")
    SUCCESS = (0, 200, "Success")
    PLUGIN = (1, 500, "Failure inside plugin code")
    NOT_IMPLEMENTED = (2, 500, "Feature absent")
    PARAMETER_OUT_OF_RANGE = (3, 400, "Value not allowed")
    NOT_ENOUGH_MEMORY = (4, 500, "Allocation failed")
    BAD_PARAMETER_TYPE = (5, 400, "Wrong type for a value")
    BAD_SEQUENCE_OF_CALLS = (6, 500, "Call not allowed in this state")
    INEXISTENT_ITEM = (7, 404, "Referenced item absent")
    BAD_REQUEST = (8, 400, "Malformed request")
    NETWORK_PROTOCOL = (9, 500, "Remote network failure")
    SYSTEM_COMMAND = (10, 500, "External command failed")
    DATABASE = (11, 500, "Index failure")
    URI_SYNTAX = (12, 400, "Malformed URI")
    INEXISTENT_FILE = (13, 404, "File absent")
    CANNOT_WRITE_FILE = (14, 500, "Write failed")
    BAD_FILE_FORMAT = (15, 400, "Unparsable content")
    TIMEOUT = (16, 500, "Timed out")
    UNKNOWN_RESOURCE = (17, 404, "No such resource or route")
    INCOMPATIBLE_DATABASE_VERSION = (18, 500, "Index schema mismatch")
    FULL_STORAGE = (19, 500, "Storage quota reached")
    CORRUPTED_FILE = (20, 500, "Checksum mismatch")
    INEXISTENT_TAG = (21, 404, "Tag absent")
    READ_ONLY = (22, 500, "Read-only object")
    INCOMPATIBLE_IMAGE_FORMAT = (23, 500, "Pixel format mismatch")
    INCOMPATIBLE_IMAGE_SIZE = (24, 500, "Image size mismatch")
    SHARED_LIBRARY = (25, 500, "Plugin loading failure")
    UNKNOWN_PLUGIN_SERVICE = (26, 500, "Unknown SDK service")
    UNKNOWN_DICOM_TAG = (27, 500, "Tag name not in dictionary")
    BAD_JSON = (28, 400, "Invalid JSON")
    UNAUTHORIZED = (29, 401, "Bad credentials")
    BAD_FONT = (30, 500, "Invalid font")
    DATABASE_PLUGIN = (31, 500, "Index plugin misbehaves")
    STORAGE_AREA_PLUGIN = (32, 500, "Storage plugin failure")
    EMPTY_REQUEST = (33, 500, "No content")
    NOT_ACCEPTABLE = (34, 406, "Accept header not satisfiable")
    NULL_POINTER = (35, 500, "Null pointer")
    DATABASE_UNAVAILABLE = (36, 503, "Index temporarily down")
    CANCELED_JOB = (37, 500, "Job canceled")
    BAD_GEOMETRY = (38, 500, "Geometry failure")
    SSL_INITIALIZATION = (39, 500, "TLS setup failure")
    DISCONTINUED_ABI = (40, 500, "Removed internal function")
    BAD_RANGE = (41, 416, "Invalid HTTP Range")
    DATABASE_CANNOT_SERIALIZE = (42, 503, "Transaction conflict, retry")
    REVISION = (43, 409, "Wrong revision (If-Match)")
    MAIN_DICOM_TAGS_MULTIPLY_DEFINED = (44, 500, "Main tag declared twice for a level")
    FORBIDDEN_ACCESS = (45, 403, "Access denied")
    DUPLICATE_RESOURCE = (46, 409, "Already exists")
    INCOMPATIBLE_CONFIGURATIONS = (47, 500, "Contradictory options")
    SQLITE_NOT_OPENED = (1000, 500, "SQLite: not opened")
    SQLITE_ALREADY_OPENED = (1001, 500, "SQLite: already opened")
    SQLITE_CANNOT_OPEN = (1002, 500, "SQLite: cannot open")
    SQLITE_STATEMENT_ALREADY_USED = (1003, 500, "SQLite: statement already used")
    SQLITE_EXECUTE = (1004, 500, "SQLite: execute")
    SQLITE_ROLLBACK_WITHOUT_TRANSACTION = (1005, 500, "SQLite: rollback without transaction")
    SQLITE_COMMIT_WITHOUT_TRANSACTION = (1006, 500, "SQLite: commit without transaction")
    SQLITE_REGISTER_FUNCTION = (1007, 500, "SQLite: register function")
    SQLITE_FLUSH = (1008, 500, "SQLite: flush")
    SQLITE_CANNOT_RUN = (1009, 500, "SQLite: cannot run")
    SQLITE_CANNOT_STEP = (1010, 500, "SQLite: cannot step")
    SQLITE_BIND_OUT_OF_RANGE = (1011, 500, "SQLite: bind out of range")
    SQLITE_PREPARE_STATEMENT = (1012, 500, "SQLite: prepare statement")
    SQLITE_TRANSACTION_ALREADY_STARTED = (1013, 500, "SQLite: transaction already started")
    SQLITE_TRANSACTION_COMMIT = (1014, 500, "SQLite: transaction commit")
    SQLITE_TRANSACTION_BEGIN = (1015, 500, "SQLite: transaction begin")
    DIRECTORY_OVER_FILE = (2000, 500, "File where directory expected")
    FILE_STORAGE_CANNOT_WRITE = (2001, 500, "Storage write failure")
    DIRECTORY_EXPECTED = (2002, 500, "Not a directory")
    HTTP_PORT_IN_USE = (2003, 500, "HTTP port or bind address unusable")
    DICOM_PORT_IN_USE = (2004, 500, "DICOM port unusable")
    BAD_HTTP_STATUS_IN_REST = (2005, 500, "HTTP status not allowed here")
    REGULAR_FILE_EXPECTED = (2006, 500, "Not a regular file")
    PATH_TO_EXECUTABLE = (2007, 500, "Own path unknown")
    MAKE_DIRECTORY = (2008, 500, "Mkdir failed")
    BAD_APPLICATION_ENTITY_TITLE = (2009, 500, "AET empty or over 16 characters")
    NO_CFIND_HANDLER = (2010, 500, "No C-FIND SCP")
    NO_CMOVE_HANDLER = (2011, 500, "No C-MOVE SCP")
    NO_CSTORE_HANDLER = (2012, 500, "No C-STORE SCP")
    NO_APPLICATION_ENTITY_FILTER = (2013, 500, "No AET filter")
    NO_SOP_CLASS_OR_INSTANCE = (2014, 500, "SCU: SOP class/instance UID missing")
    NO_PRESENTATION_CONTEXT = (2015, 500, "SCU: no accepted presentation context")
    DICOM_FIND_UNAVAILABLE = (2016, 500, "Remote refuses C-FIND")
    DICOM_MOVE_UNAVAILABLE = (2017, 500, "Remote refuses C-MOVE")
    CANNOT_STORE_INSTANCE = (2018, 500, "Storing failed")
    CREATE_DICOM_NOT_STRING = (2019, 400, "Create-dicom: non-string value")
    CREATE_DICOM_OVERRIDE_TAG = (2020, 400, "Create-dicom: tag already set by parent")
    CREATE_DICOM_USE_CONTENT = (2021, 400, "Create-dicom: pixel data must go in Content")
    CREATE_DICOM_NO_PAYLOAD = (2022, 400, "Create-dicom: missing Content item")
    CREATE_DICOM_USE_DATA_URI_SCHEME = (2023, 400, "Create-dicom: Content not a data URI")
    CREATE_DICOM_BAD_PARENT = (2024, 400, "Create-dicom: parent absent")
    CREATE_DICOM_PARENT_IS_INSTANCE = (2025, 400, "Create-dicom: parent is an instance")
    CREATE_DICOM_PARENT_ENCODING = (2026, 500, "Create-dicom: parent encoding unknown")
    UNKNOWN_MODALITY = (2027, 500, "Modality not configured")
    BAD_JOB_ORDERING = (2028, 500, "Bad order of job steps")
    JSON_TO_LUA_TABLE = (2029, 500, "JSON to Lua conversion failed")
    CANNOT_CREATE_LUA = (2030, 500, "Lua init failed")
    CANNOT_EXECUTE_LUA = (2031, 500, "Lua runtime error")
    LUA_ALREADY_EXECUTED = (2032, 500, "Lua call already done")
    LUA_BAD_OUTPUT = (2033, 500, "Unexpected Lua result")
    NOT_LUA_PREDICATE = (2034, 500, "Lua result not boolean")
    LUA_RETURNS_NO_STRING = (2035, 500, "Lua result not string")
    STORAGE_AREA_ALREADY_REGISTERED = (2036, 500, "Second storage plugin")
    DATABASE_BACKEND_ALREADY_REGISTERED = (2037, 500, "Second index plugin")
    DATABASE_NOT_INITIALIZED = (2038, 500, "Index used too early")
    SSL_DISABLED = (2039, 500, "No TLS support built")
    CANNOT_ORDER_SLICES = (2040, 500, "Slice ordering failed")
    NO_WORKLIST_HANDLER = (2041, 500, "No worklist SCP")
    ALREADY_EXISTING_TAG = (2042, 500, "Tag already present")
    NO_STORAGE_COMMITMENT_HANDLER = (2043, 500, "No storage commitment SCP")
    NO_CGET_HANDLER = (2044, 500, "No C-GET SCP")
    DICOM_GET_UNAVAILABLE = (2045, 500, "Remote refuses C-GET")
    UNSUPPORTED_MEDIA_TYPE = (3000, 415, "Content not renderable")


class ForeignCode(int):
    """An error code that scripts have added, with its default HTTP status and its text."""

    http_status: int
    message: str

    def __new__(cls, code: int, http_status: int, message: str) -> ForeignCode:
        member = int.__new__(cls, code)
        member.http_status = http_status
        member.message = message
        return member
