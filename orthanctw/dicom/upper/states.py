"""The state table of the upper layer (PS3.8 tables 9-6 to 9-10): what to do on which event, and the state after it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class State(enum.IntEnum):
    """PS3.8 tables 9-1 to 9-5."""

    IDLE = 1
    AWAIT_ASSOCIATE_RQ = 2
    AWAIT_LOCAL_ASSOCIATE_RESPONSE = 3
    AWAIT_TRANSPORT = 4
    AWAIT_ASSOCIATE_ANSWER = 5
    ESTABLISHED = 6
    AWAIT_RELEASE_RP = 7
    AWAIT_LOCAL_RELEASE_RESPONSE = 8
    COLLISION_REQUESTOR_AWAIT_LOCAL = 9
    COLLISION_ACCEPTOR_AWAIT_RP = 10
    COLLISION_REQUESTOR_AWAIT_RP = 11
    COLLISION_ACCEPTOR_AWAIT_LOCAL = 12
    AWAIT_TRANSPORT_CLOSE = 13


class Event(enum.IntEnum):
    """PS3.8 table 9-10, first column."""

    ASSOCIATE_REQUEST = 1
    TRANSPORT_CONFIRM = 2
    ASSOCIATE_AC_PDU = 3
    ASSOCIATE_RJ_PDU = 4
    TRANSPORT_INDICATION = 5
    ASSOCIATE_RQ_PDU = 6
    ASSOCIATE_ACCEPT = 7
    ASSOCIATE_REJECT = 8
    DATA_REQUEST = 9
    DATA_PDU = 10
    RELEASE_REQUEST = 11
    RELEASE_RQ_PDU = 12
    RELEASE_RP_PDU = 13
    RELEASE_RESPONSE = 14
    ABORT_REQUEST = 15
    ABORT_PDU = 16
    TRANSPORT_CLOSED = 17
    ARTIM_EXPIRED = 18
    INVALID_PDU = 19


def _row(text: str) -> dict[int, str]:
    """``2:AA-1 3,5-12:AA-8`` as a mapping of states."""
    row: dict[int, str] = {}
    for item in text.split():
        states, _, action = item.partition(":")
        for part in states.split(","):
            first, _, last = part.partition("-")
            row.update(dict.fromkeys(range(int(first), int(last or first) + 1), action))
    return row


_EVENTS: Final[Mapping[int, str]] = {
    1: "1:AE-1",
    2: "4:AE-2",
    3: "2:AA-1 3:AA-8 5:AE-3 6-12:AA-8 13:AA-6",
    4: "2:AA-1 3:AA-8 5:AE-4 6-12:AA-8 13:AA-6",
    5: "1:AE-5",
    6: "2:AE-6 3:AA-8 5-12:AA-8 13:AA-7",
    7: "3:AE-7",
    8: "3:AE-8",
    9: "6:DT-1 8:AR-7",
    10: "2:AA-1 3:AA-8 5:AA-8 6:DT-2 7:AR-6 8-12:AA-8 13:AA-6",
    11: "6:AR-1",
    12: "2:AA-1 3:AA-8 5:AA-8 6:AR-2 7:AR-8 8-12:AA-8 13:AA-6",
    13: "2:AA-1 3:AA-8 5-6:AA-8 7:AR-3 8-9:AA-8 10:AR-10 11:AR-3 12:AA-8 13:AA-6",
    14: "8:AR-4 9:AR-9 12:AR-4",
    15: "3:AA-1 4:AA-2 5-12:AA-1",
    16: "2:AA-2 3:AA-3 5-12:AA-3 13:AA-2",
    17: "2:AA-5 3-12:AA-4 13:AR-5",
    18: "2:AA-2 13:AA-2",
    19: "2:AA-1 3:AA-8 5-12:AA-8 13:AA-7",
}
#: The action of every event and state that can meet; a pair that is not here cannot.
TABLE: Final[Mapping[tuple[Event, State], str]] = {
    (Event(event), State(state)): action
    for event, text in _EVENTS.items()
    for state, action in _row(text).items()
}
#: The state after each action. AE-6 ends in 13 when the request is refused by the provider, AR-8 in 10 at the acceptor.
NEXT: Final[Mapping[str, State]] = {
    "AE-1": State(4),
    "AE-2": State(5),
    "AE-3": State(6),
    "AE-4": State(1),
    "AE-5": State(2),
    "AE-6": State(3),
    "AE-7": State(6),
    "AE-8": State(13),
    "DT-1": State(6),
    "DT-2": State(6),
    "AR-1": State(7),
    "AR-2": State(8),
    "AR-3": State(1),
    "AR-4": State(13),
    "AR-5": State(1),
    "AR-6": State(7),
    "AR-7": State(8),
    "AR-8": State(9),
    "AR-9": State(11),
    "AR-10": State(12),
    "AA-1": State(13),
    "AA-2": State(1),
    "AA-3": State(1),
    "AA-4": State(1),
    "AA-5": State(1),
    "AA-6": State(13),
    "AA-7": State(13),
    "AA-8": State(13),
}
