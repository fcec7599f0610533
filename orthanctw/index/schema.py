"""The tables of the index, their version, and the steps from one version to the next."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import DatabaseError

#: Marks a SQLite file as an index of ours (``PRAGMA application_id``).
APPLICATION_ID: Final = 0x4F545749

# `resources` is narrow, so that walks along the hierarchy touch few pages; what is shown lies in `details`, the header
# of an instance at the end of its row. `in_series` copies metadata: IndexInSeries of an instance, the expected number
# of a series. `new_change` is the NewInstance entry of an instance: a deletion finds it by that, and the index of
# changes need not grow with every object. Nor need the index of levels: most rows are instances, which are listed by
# their row numbers. These come from `counters` and are never used again.
_TABLES: Final = """
CREATE TABLE resources (
    id INTEGER PRIMARY KEY,
    level INTEGER NOT NULL,
    parent INTEGER,
    public_id TEXT NOT NULL UNIQUE,
    last_update TEXT,
    in_series TEXT,
    new_change INTEGER
);
CREATE INDEX resources_level ON resources (level) WHERE level < 4;
CREATE INDEX resources_parent ON resources (parent);
CREATE TABLE details (id INTEGER PRIMARY KEY, main_tags BLOB NOT NULL, metadata BLOB NOT NULL, header BLOB);
CREATE TABLE attachments (
    resource INTEGER NOT NULL,
    type INTEGER NOT NULL,
    uuid TEXT NOT NULL,
    size INTEGER NOT NULL,
    md5 TEXT NOT NULL,
    crc32 INTEGER NOT NULL,
    compression INTEGER NOT NULL,
    compressed_size INTEGER NOT NULL,
    compressed_md5 TEXT NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (resource, type)
) WITHOUT ROWID;
CREATE INDEX attachments_uuid ON attachments (uuid);
CREATE TABLE search (
    resource INTEGER NOT NULL,
    tag INTEGER NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (resource, tag, value)
) WITHOUT ROWID;
CREATE INDEX search_value ON search (tag, value);
CREATE TABLE labels (
    resource INTEGER NOT NULL,
    label TEXT NOT NULL,
    PRIMARY KEY (resource, label)
) WITHOUT ROWID;
CREATE INDEX labels_label ON labels (label);
CREATE TABLE changes (
    seq INTEGER PRIMARY KEY,
    type INTEGER NOT NULL,
    resource INTEGER NOT NULL,
    date TEXT NOT NULL
);
CREATE INDEX changes_resource ON changes (resource) WHERE type <> 2;
CREATE INDEX changes_type ON changes (type) WHERE type <> 2;
CREATE TABLE exports (
    seq INTEGER PRIMARY KEY,
    level INTEGER NOT NULL,
    public_id TEXT NOT NULL,
    remote_modality TEXT NOT NULL,
    date TEXT NOT NULL,
    patient_id TEXT NOT NULL,
    study_instance_uid TEXT NOT NULL,
    series_instance_uid TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL
);
CREATE TABLE recycling (position INTEGER PRIMARY KEY, patient INTEGER NOT NULL UNIQUE);
CREATE TABLE removals (uuid TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE counters (
    level_1 INTEGER NOT NULL DEFAULT 0,
    level_2 INTEGER NOT NULL DEFAULT 0,
    level_3 INTEGER NOT NULL DEFAULT 0,
    level_4 INTEGER NOT NULL DEFAULT 0,
    disk_size INTEGER NOT NULL DEFAULT 0,
    uncompressed_size INTEGER NOT NULL DEFAULT 0,
    dicom_disk_size INTEGER NOT NULL DEFAULT 0,
    dicom_uncompressed_size INTEGER NOT NULL DEFAULT 0,
    last_resource INTEGER NOT NULL DEFAULT 0,
    last_change INTEGER NOT NULL DEFAULT 0,
    last_export INTEGER NOT NULL DEFAULT 0,
    last_recycling INTEGER NOT NULL DEFAULT 0
);
INSERT INTO counters DEFAULT VALUES;
CREATE TABLE properties (number INTEGER PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE key_values (
    store TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (store, key)
) WITHOUT ROWID;
CREATE TABLE queues (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    value BLOB NOT NULL,
    reserved_until REAL NOT NULL DEFAULT 0
);
CREATE INDEX queues_queue ON queues (queue);
CREATE TABLE schema_history (version INTEGER PRIMARY KEY, date TEXT NOT NULL);
"""

#: One step for each version; a step changes the tables of the version before it.
Step = Callable[[sqlite3.Connection], None]


def _create(connection: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)


def _add_jobs(connection: sqlite3.Connection) -> None:
    # A status is written after every few steps, the rest never again. Parameters may be long: being last, they cost
    # nothing to whoever reads what stands before them.
    connection.execute(
        "CREATE TABLE jobs (number INTEGER PRIMARY KEY, definition BLOB NOT NULL, parameters BLOB NOT NULL)"
    )
    connection.execute("CREATE TABLE job_status (number INTEGER PRIMARY KEY, status BLOB NOT NULL)")


def _add_scripted(connection: sqlite3.Connection) -> None:
    # What a script keeps in place of the storage directory. The script that removes it wants to know what it was.
    for statement in (
        "ALTER TABLE attachments ADD COLUMN is_scripted INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE attachments ADD COLUMN custom_data BLOB NOT NULL DEFAULT x''",
        "ALTER TABLE removals ADD COLUMN type INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE removals ADD COLUMN is_scripted INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE removals ADD COLUMN custom_data BLOB NOT NULL DEFAULT x''",
    ):
        connection.execute(statement)


STEPS: Final[tuple[Step, ...]] = (_create, _add_jobs, _add_scripted)


def migrate(connection: sqlite3.Connection, date: str, steps: Sequence[Step] = STEPS) -> int:
    """Bring the tables to the version ``len(steps)``, all in one transaction; answers the version found.

    Raises DatabaseError for a file of another program, and for a version that this program does not know.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = _version(connection)
        if found > len(steps):
            raise DatabaseError(
                f"the index has version {found}, this program knows up to {len(steps)}",
                code=ErrorCode.INCOMPATIBLE_DATABASE_VERSION,
            )
        for version, step in enumerate(steps[found:], found + 1):
            step(connection)
            connection.execute("INSERT INTO schema_history VALUES (?, ?)", (version, date))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(steps)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return found


def _version(connection: sqlite3.Connection) -> int:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application == APPLICATION_ID:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return int(version)
    (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
    if tables:
        raise DatabaseError("the file is a database of another program")
    return 0
