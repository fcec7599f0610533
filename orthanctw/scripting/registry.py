"""What scripts have registered."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs
from twisted.logger import Logger

from orthanctw.error_codes import ForeignCode
from orthanctw.errors import BadRequest
from orthanctw.scripting.presentation import Presentation

if TYPE_CHECKING:
    import regex

log = Logger(namespace="orthanctw.plugins")
#: Seconds of the processor in which a path is compared with a pattern: this happens on the reactor, and clients choose
#: paths. There are patterns for which a path of 40 characters would take hours.
_PATIENCE: Final = 0.02


class Kind(enum.Enum):
    """Kinds of registrations. A script has one of each at most."""

    CHANGE = "change"
    STORED_INSTANCE = "stored instance"
    RECEIVED_INSTANCE = "received instance"
    HTTP_FILTER = "HTTP request filter"
    CSTORE_FILTER = "C-STORE filter"
    FIND = "C-FIND"
    MOVE = "C-MOVE"
    WORKLIST = "worklist"
    COMMITMENT = "storage commitment"
    STORAGE_AREA = "storage area"


#: Of these, there is one in the whole server.
SINGLE = frozenset((Kind.FIND, Kind.MOVE, Kind.WORKLIST, Kind.COMMITMENT, Kind.STORAGE_AREA))


@attrs.frozen
class Registration:
    """Callbacks of a script; `version` is that of the function that registered them."""

    script: str
    callbacks: tuple[Callable[..., Any], ...]
    version: int = 1


@attrs.frozen
class Route:
    """A callback for paths that a regular expression matches as a whole."""

    pattern: regex.Pattern[str]
    registration: Registration

    def groups_of(self, path: str) -> tuple[str, ...] | None:
        """The groups of a path that matches, else None. BadRequest when that cannot be told in time."""
        try:
            match = self.pattern.fullmatch(path, timeout=_PATIENCE)
        except TimeoutError:
            log.warn("Paths can take too long to be compared with a pattern: {pattern}", pattern=self.pattern.pattern)
            raise BadRequest("It takes too long to compare the path with a pattern") from None
        return None if match is None else match.groups("")


class Registry:
    """All registrations of one load of the scripts; read on the reactor, written while scripts load."""

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self.presentation = Presentation()
        self.codes: dict[int, ForeignCode] = {}
        self._kinds: dict[Kind, list[Registration]] = {}

    def add(self, kind: Kind, registration: Registration) -> None:
        """RuntimeError when there is one already."""
        there = self._kinds.setdefault(kind, [])
        for other in there:
            if other.script == registration.script:
                raise RuntimeError(f"Can only register one Python callback of this kind: {kind.value}")
            if kind in SINGLE:
                raise RuntimeError(
                    f"{registration.script}: {other.script} has registered a {kind.value} callback already"
                )
        there.append(registration)

    def add_route(self, pattern: str, registration: Registration) -> None:
        """ValueError for a pattern that is no regular expression."""
        # Not `re`, which cannot be interrupted. Further, this one has Orthanc's names of classes: [[:digit:]].
        import regex

        try:
            compiled = regex.compile(pattern)
        except regex.error as e:
            raise ValueError(f"Not a regular expression: {pattern}: {e}") from None
        self.routes.append(Route(compiled, registration))

    def all(self, kind: Kind) -> tuple[Registration, ...]:
        """Those of a kind, in the order of the scripts."""
        return tuple(self._kinds.get(kind, ()))

    def one(self, kind: Kind) -> Registration | None:
        """The registration of a kind that is single."""
        there = self._kinds.get(kind)
        return there[0] if there else None

    def has(self, kind: Kind) -> bool:
        return bool(self._kinds.get(kind))
