"""Who may associate and do what, and which objects are received (level 4)."""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import translate

from twisted.logger import Logger

from orthanctw.dicom.uids import STORAGE_SOP_CLASSES, TRANSFER_SYNTAX_GROUPS, TRANSFER_SYNTAXES
from orthanctw.settings import Modality
from orthanctw.settings.services import Dicom

log = Logger(namespace="orthanctw.dicom")
#: Services other than storage: never taken for unknown storage classes.
_OTHER_SERVICES = re.compile(
    r"1\.2\.840\.10008\.(1\.(1|20\..*|9|40|42)|3\.1\..*|5\.1\.1\.(1|9|14|15|16|18|2|4|22|23|24|25|26|31|32|33)(\..*)?|"
    r"5\.1\.4\.(1\.2|31|32|33|34|37|38|39|41|42|43|44|45)(\..*)?)\Z"
)


class Operation(enum.Enum):
    """What a remote application entity may ask for; the value is the word of the options."""

    ECHO = "Echo"
    STORE = "Store"
    FIND = "Find"
    FIND_WORKLIST = "FindWorklist"
    GET = "Get"
    MOVE = "Move"
    N_ACTION = "NAction"
    N_EVENT_REPORT = "NEventReport"


_ALLOWED: Mapping[Operation, Callable[[Modality], bool]] = {
    Operation.ECHO: lambda modality: modality.allow_echo,
    Operation.STORE: lambda modality: modality.allow_store,
    Operation.FIND: lambda modality: modality.allow_find,
    Operation.FIND_WORKLIST: lambda modality: modality.allow_find_worklist,
    Operation.GET: lambda modality: modality.allow_get,
    Operation.MOVE: lambda modality: modality.allow_move,
    Operation.N_ACTION: lambda modality: modality.allow_n_action,
    Operation.N_EVENT_REPORT: lambda modality: modality.allow_event_report,
}


@functools.lru_cache(maxsize=256)
def _matcher(pattern: str) -> Callable[[str], re.Match[str] | None]:
    return re.compile(translate(pattern.replace("[", "[[]"))).match


def _matches(uid: str, patterns: Iterable[str]) -> bool:
    return any(_matcher(pattern)(uid) for pattern in patterns)


class Acceptance:
    """The options ``DicomAlwaysAllow...``, ``DicomCheck...``, ``DicomModalities``, ``Accepted...`` and their company.

    Parameters
    ----------
    modalities : callable
        The modalities known now, by symbolic name.
    """

    def __init__(self, options: Dicom, modalities: Callable[[], Mapping[str, Modality]]) -> None:
        self._options = options
        self._modalities = modalities
        self.unknown_sop_class_accepted = options.unknown_sop_class_accepted
        self.transfer_syntaxes: frozenset[str] = frozenset()
        self.set_transfer_syntaxes(options.accepted_transfer_syntaxes)
        self._apply_groups()
        self._always = {
            Operation.ECHO: options.dicom_always_allow_echo,
            Operation.STORE: options.dicom_always_allow_store,
            Operation.FIND: options.dicom_always_allow_find,
            Operation.FIND_WORKLIST: options.dicom_always_allow_find_worklist,
            Operation.GET: options.dicom_always_allow_get,
            Operation.MOVE: options.dicom_always_allow_move,
        }
        self.sop_classes = self._sop_classes()

    # What is received

    def set_transfer_syntaxes(self, patterns: Sequence[str]) -> None:
        """Accept the known transfer syntaxes that match one of `patterns`."""
        self.transfer_syntaxes = frozenset(uid for uid in TRANSFER_SYNTAXES if _matches(uid, patterns))

    def _apply_groups(self) -> None:
        for group, members in TRANSFER_SYNTAX_GROUPS.items():
            wanted = getattr(self._options, f"{_snake(group)}_transfer_syntax_accepted")
            if wanted is not None:
                others = self.transfer_syntaxes.difference(members)
                self.transfer_syntaxes = others.union(members) if wanted else others

    def _sop_classes(self) -> frozenset[str]:
        options = self._options
        if options.accepted_sop_classes is None:
            accepted = set(STORAGE_SOP_CLASSES)
        else:
            patterns = options.accepted_sop_classes
            accepted = {uid for uid in STORAGE_SOP_CLASSES if _matches(uid, patterns)}
            accepted.update(uid for uid in patterns if "*" not in uid and "?" not in uid)
        return frozenset(uid for uid in accepted if not _matches(uid, options.rejected_sop_classes))

    def accepts_storage_of(self, sop_class: str) -> bool:
        """Whether objects of a SOP class are received."""
        if sop_class in self.sop_classes:
            return True
        return (
            self.unknown_sop_class_accepted
            and sop_class not in STORAGE_SOP_CLASSES
            and _OTHER_SERVICES.match(sop_class) is None
            and not _matches(sop_class, self._options.rejected_sop_classes)
        )

    # Who may do what

    def _same_title(self, one: str, other: str) -> bool:
        return one == other if self._options.strict_aet_comparison else one.upper() == other.upper()

    def is_called(self, called_aet: str) -> bool:
        """Whether an association addresses us."""
        return not self._options.dicom_check_called_aet or self._same_title(called_aet, self._options.dicom_aet)

    def _known(self, aet: str, address: str) -> list[Modality]:
        """Modalities of an AE title, at their host when that is checked."""
        found = [item for item in self._modalities().values() if self._same_title(item.aet, aet)]
        if self._options.dicom_check_modality_host:
            found = [item for item in found if _same_host(item.host, address)]
        return found

    def may_connect(self, calling_aet: str, address: str) -> bool:
        """Whether a remote application entity may associate at all."""
        return any(self._always.values()) or bool(self._known(calling_aet, address))

    def is_allowed(self, operation: Operation, calling_aet: str, address: str) -> bool:
        """Whether a remote application entity may ask for an operation."""
        if self._always.get(operation, False):
            return True
        allowed = any(_ALLOWED[operation](modality) for modality in self._known(calling_aet, address))
        if not allowed:
            log.warn(
                "{operation} refused to {aet} at {address}",
                operation=operation.value,
                aet=calling_aet,
                address=address,
            )
        return allowed


def _snake(group: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", group).lower()


def _same_host(host: str, address: str) -> bool:
    return host == address or (host == "localhost" and address in ("127.0.0.1", "::1"))
