"""What C-MOVE and C-GET have in common: sub-operations, their counters, their end (PS3.4 sections C.4.2 and C.4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from orthanctw.dicom import dimse
from orthanctw.dicom.scp.exchange import Exchange, Outcome
from orthanctw.retrieval import StoredObject

_FAILED_SOP_INSTANCE_UID_LIST: Final = 0x00080058
#: UIDs of the list of failures at most: a longer one would not fit into its element.
_FAILURES_TOLD: Final = 900


@attrs.define
class SubOperations:
    """Counts the C-STORE sub-operations of one retrieval."""

    remaining: int
    completed: int = 0
    warnings: int = 0
    failures: list[str] = attrs.field(factory=list)

    def succeeded(self, status: int) -> None:
        """One has ended with success or a warning."""
        self.remaining -= 1
        if status == dimse.SUCCESS:
            self.completed += 1
        else:
            self.warnings += 1

    def failed(self, item: StoredObject | None = None) -> None:
        """One has failed; of an object, when that is known."""
        self.remaining -= 1
        self.failures.append("" if item is None else item.sop_instance_uid)

    def counters(self, *, is_final: bool = False) -> Mapping[int, int]:
        """Numbers for a response; those of a final one know no remaining ones, unless it was cancelled."""
        counters = {
            dimse.COMPLETED: self.completed,
            dimse.FAILED: len(self.failures),
            dimse.WARNING: self.warnings,
        }
        return counters if is_final else {dimse.REMAINING: self.remaining, **counters}

    def outcome(self, exchange: Exchange, failure: int) -> Outcome:
        """The final response; `failure` is its status when no object has arrived."""
        if exchange.is_cancelled and self.remaining:
            return Outcome(status=dimse.CANCELLED, counters=self.counters())
        if not self.failures:
            return Outcome(counters=self.counters(is_final=True))
        nothing_sent = self.completed + self.warnings == 0
        told = [uid for uid in self.failures[:_FAILURES_TOLD] if uid]
        return Outcome(
            status=failure if nothing_sent else dimse.SOME_SUB_OPERATIONS_FAILED,
            comment=f"{len(self.failures)} sub-operations failed",
            counters=self.counters(is_final=True),
            identifier=[(_FAILED_SOP_INSTANCE_UID_LIST, "UI", "\\".join(told))] if told else None,
        )
