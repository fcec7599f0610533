"""One row per job, and one for how far it came."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from orthanctw.index.rows import json_list
from orthanctw.index.transaction import Transaction
from orthanctw.model import SavedJob


def add_jobs(transaction: Transaction, jobs: Sequence[SavedJob]) -> None:
    for job in jobs:
        transaction.execute("INSERT INTO jobs VALUES (?, ?, ?)", (job.number, job.definition, job.parameters))
        transaction.execute("INSERT INTO job_status VALUES (?, ?)", (job.number, job.status))


def update_jobs(transaction: Transaction, statuses: Mapping[int, bytes], forgotten: Sequence[int]) -> None:
    for number, status in statuses.items():
        transaction.execute("UPDATE job_status SET status = ? WHERE number = ?", (status, number))
    if forgotten:
        for table in ("jobs", "job_status"):
            transaction.execute(
                f"DELETE FROM {table} WHERE number IN (SELECT value FROM json_each(?))", (json_list(forgotten),)
            )


def jobs(connection: sqlite3.Connection) -> list[SavedJob]:
    rows = connection.execute(
        "SELECT j.number, j.definition, s.status FROM jobs j CROSS JOIN job_status s ON s.number = j.number"
        " ORDER BY j.number"
    )
    return [SavedJob(number, bytes(definition), bytes(status)) for number, definition, status in rows]


def job_parameters(connection: sqlite3.Connection, number: int) -> bytes | None:
    row = connection.execute("SELECT parameters FROM jobs WHERE number = ?", (number,)).fetchone()
    return None if row is None else bytes(row[0])
