"""Data sets with some elements changed (PS3.5 section 7); all others are copied octet for octet."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Set
from typing import Final

import attrs

from orthanctw.dicom.charset import Decoder, decoder
from orthanctw.dicom.dictionary import Dictionary, creator_tag, is_private, reserves
from orthanctw.dicom.editing.identity import Identity
from orthanctw.dicom.editing.modification import IDENTIFIERS, PATIENT_ID, PATIENT_NAME
from orthanctw.dicom.editing.plan import Plan, Rules
from orthanctw.dicom.editing.profiles import Action
from orthanctw.dicom.elements import (
    ITEM,
    ITEM_END,
    PIXEL_DATA,
    SEQUENCE_END,
    SPECIFIC_CHARACTER_SET,
    TEXT_VRS,
    UNDEFINED,
    Buffer,
    Encoding,
    Head,
    encoded_head,
    read_head,
)
from orthanctw.dicom.encoding import CHARACTER_VRS
from orthanctw.dicom.frames import read_fragments
from orthanctw.dicom.scanner import DEPTH_LIMIT, ELEMENT_LIMIT
from orthanctw.errors import BadFileFormat

Parts = list[bytes | memoryview]
#: Encodes new elements of one data set or item.
EncodeRules = Callable[[Rules, Encoding], Mapping[int, bytes]]
#: Encodes text of a VR in the character set of the result.
EncodeText = Callable[[str, str], bytes]
_IMPLICIT: Final = Encoding(False)
#: DataSetTrailingPadding (PS3.10 section 7.2).
_PADDING: Final = 0xFFFCFFFC
_UIDS: Final = frozenset(IDENTIFIERS.values()) - {PATIENT_ID}
_NO_DEPTH: Final = "sequences are nested too deeply"


@attrs.define(eq=False)
class Scope:
    """A data set, or an item of a sequence.

    Parameters
    ----------
    encoding : Encoding
    rules : tuple of Rules
        All of them hold.
    new : mapping of int to bytes
        Encoded elements to be put in place of those with their tags.
    decode : Decoder
        Of text.
    sequence : int
        The tag of the sequence that it is an item of; 0 for the top level.
    """

    encoding: Encoding
    rules: tuple[Rules, ...]
    new: Mapping[int, bytes]
    decode: Decoder
    sequence: int = 0
    depth: int = 0
    is_delimited: bool = False
    creators: dict[int, str] = attrs.Factory(dict)

    def item_rules(self, tag: int, number: int) -> tuple[Rules, ...]:
        """What holds within an item of a sequence."""
        return tuple(
            inner
            for rules in self.rules
            for chosen, inner in rules.items.get(tag, {}).items()
            if chosen is None or chosen == number
        )


class Rewriter:
    """Writes one object's data set anew.

    Parameters
    ----------
    data : buffer
    plan : Plan
    identity : Identity
        New identifiers of this object, and of what it refers to.
    encode_rules : callable
    encode_text : callable
    recodes : bool
        Whether the character set of the result is another one, so that all text is to be encoded anew.
    """

    def __init__(
        self,
        data: Buffer,
        dictionary: Dictionary,
        plan: Plan,
        identity: Identity,
        encode_rules: EncodeRules,
        encode_text: EncodeText,
        recodes: bool,
        default_encoding: str,
    ) -> None:
        self._data = memoryview(data)
        self._dictionary = dictionary
        self._profile = plan.profile
        self._removes_private = plan.modification.removes_private
        self._identity = identity
        self._encode_rules = encode_rules
        self._encode_text = encode_text
        self._recodes = recodes
        self._default_encoding = default_encoding
        self._found: set[int] = set()

    def whole(self, position: int, scope: Scope, expected: Set[int]) -> Parts:
        """The data set from a position on. `expected` are the tags that the scanner has found.

        Raises BadFileFormat, struct.error; when there are others too: lengths that contradict each other can be
        understood in several ways.
        """
        parts, _, _ = self.dataset(position, len(self._data), scope)
        if self._found - {_PADDING} != expected - {_PADDING}:
            raise BadFileFormat("lengths within the data set contradict each other")
        return parts

    def dataset(self, position: int, end: int, scope: Scope) -> tuple[Parts, bool, int]:
        """The elements that lie between two positions, whether any has changed, and where what follows them begins.

        A delimiter at their end is not among them. Raises BadFileFormat, struct.error.
        """
        data, encoding = self._data, scope.encoding
        pending = sorted(scope.new.items(), reverse=True)
        parts: Parts = []
        # What is copied as it is begins here.
        run = position
        while position < end:
            head = read_head(data, position, encoding)
            if head.tag >> 16 == ITEM >> 16:
                # With a length, the scanner may have read on.
                if head.tag != ITEM_END or head.length or not (scope.is_delimited or scope.depth == 0):
                    raise BadFileFormat("a stray item or delimiter")
                end, position = position, head.offset
                break
            if not scope.depth:
                self._found.add(head.tag)
            while pending and pending[-1][0] <= head.tag:
                parts += (data[run:position], pending.pop()[1])
                run = position
            stop, changed = self._element(head, end, scope)
            if changed is not None:
                parts += (data[run:position], *changed)
                run = stop
            position = stop
        else:
            if scope.is_delimited:
                raise BadFileFormat("the data set ends within an item")
        has_changed = bool(parts or pending)
        parts += (data[run:end], *(new for _, new in reversed(pending)))
        return parts, has_changed, position

    def _element(self, head: Head, end: int, scope: Scope) -> tuple[int, Parts | None]:
        """Where an element ends, and what takes its place; None when it stays."""
        tag = head.tag
        if tag & 0xFFFF == 0 or tag in scope.new:
            return self._end(head, end, scope), []
        for rules in scope.rules:
            if tag in rules.removed:
                return self._end(head, end, scope), []
            if tag in rules.kept:
                return self._verbatim(head, end, scope)
        if is_private(tag):
            if self._removes_private and (scope.depth == 0 or self._profile is not None):
                return self._end(head, end, scope), []
            return self._kept(head, end, scope)
        action = self._action(tag, scope.depth)
        if action is None:
            return self._kept(head, end, scope)
        stop = self._end(head, end, scope)
        if action is Action.REMOVE:
            return stop, []
        vr = self._vr(head, scope)
        if action is Action.CLEAR:
            if scope.depth and vr not in TEXT_VRS:
                return stop, []
            return stop, [encoded_head(tag, vr, 0, scope.encoding)]
        return stop, self._renamed(head, vr, stop, scope)

    def _verbatim(self, head: Head, end: int, scope: Scope) -> tuple[int, Parts | None]:
        """An element that stays with all that is in it; only its text may be in another character set."""
        if not self._recodes:
            return self._end(head, end, scope), None
        recoding = copy.copy(self)
        recoding._profile, recoding._removes_private = None, False
        return recoding._kept(head, end, attrs.evolve(scope, rules=(), new={}))

    def _action(self, tag: int, depth: int) -> Action | None:
        """What the profile does. Identifiers of the top level are new or kept: they do not get here."""
        if self._profile is None:
            return None
        if depth and (tag in _UIDS or tag in (PATIENT_ID, PATIENT_NAME)):
            return Action.REPLACE_UID
        return self._profile.action(tag)

    def _renamed(self, head: Head, vr: str, stop: int, scope: Scope) -> Parts | None:
        """An element that names something, with the new name."""
        if head.length == UNDEFINED:
            return []
        raw = bytes(self._data[head.offset : stop])
        if head.tag in (PATIENT_ID, PATIENT_NAME):
            old = scope.decode(raw, vr).strip(" \0")
            new = self._identity.patient_value(head.tag, old)
            value = self._encode_text(new, vr)
            if value.rstrip(b" ") == raw.rstrip(b" \0"):
                return None
        else:
            old = raw.decode("latin-1").strip(" \0")
            new = self._identity.uids(head.tag, old, scope.sequence)
            if new == old:
                return None
            value = new.encode("latin-1")
            value += bytes(len(value) % 2)
        return [encoded_head(head.tag, vr, len(value), scope.encoding), value]

    def _kept(self, head: Head, end: int, scope: Scope) -> tuple[int, Parts | None]:
        """An element that stays; but elements within it may not."""
        if reserves(head.tag) and not scope.encoding.explicit:
            stop = self._end(head, end, scope)
            scope.creators[head.tag] = bytes(self._data[head.offset : stop]).decode("latin-1").strip(" \0")
            return stop, None
        vr = self._vr(head, scope)
        if vr == "SQ" or (head.length == UNDEFINED and not self._is_encapsulated(head, vr)):
            if self._profile is not None or self._recodes or self._is_named(head.tag, scope):
                return self._sequence(head, end, scope)
        elif vr == "UN" and self._profile is not None and self._dictionary.vr(head.tag) == "SQ":
            return self._hidden_sequence(head, end, scope)
        stop = self._end(head, end, scope)
        if head.tag == SPECIFIC_CHARACTER_SET and scope.depth:
            return stop, self._character_set(head, stop, scope)
        if self._recodes and vr in CHARACTER_VRS:
            return stop, self._recoded(head, vr, stop, scope)
        return stop, None

    def _is_named(self, tag: int, scope: Scope) -> bool:
        return any(tag in rules.items for rules in scope.rules)

    def _character_set(self, head: Head, stop: int, scope: Scope) -> Parts | None:
        """That of an item: it goes when all text gets another one."""
        text = bytes(self._data[head.offset : stop]).decode("latin-1").strip(" \0")
        scope.decode = decoder(text, self._default_encoding)[0]
        return [] if self._recodes else None

    def _recoded(self, head: Head, vr: str, stop: int, scope: Scope) -> Parts | None:
        """Text in another character set."""
        raw = bytes(self._data[head.offset : stop])
        if raw.isascii() and b"\x1b" not in raw:
            return None
        value = self._encode_text(scope.decode(raw, vr).rstrip(" \0"), vr)
        return [encoded_head(head.tag, vr, len(value), scope.encoding), value]

    # Sequences

    def _hidden_sequence(self, head: Head, end: int, scope: Scope) -> tuple[int, Parts | None]:
        """A sequence that its writer did not know (PS3.5 section 6.2.2); what cannot be read goes."""
        try:
            return self._sequence(head, end, scope)
        except BadFileFormat:
            return self._end(head, end, scope), []

    def _sequence(self, head: Head, limit: int, scope: Scope) -> tuple[int, Parts | None]:
        encoding = _IMPLICIT if scope.encoding.explicit and head.vr != "SQ" else scope.encoding
        is_delimited = head.length == UNDEFINED
        end = limit if is_delimited else head.offset + head.length
        if end > limit or scope.depth >= DEPTH_LIMIT:
            raise BadFileFormat("a sequence passes the end" if end > limit else _NO_DEPTH)
        parts: Parts = []
        position = run = head.offset
        number = 0
        while position < end:
            item = read_head(self._data, position, encoding)
            if item.tag == SEQUENCE_END and is_delimited:
                is_delimited, position = False, item.offset
                break
            content, has_changed, after = self._item(item, end, encoding, head.tag, number, scope)
            if has_changed:
                length = UNDEFINED if item.length == UNDEFINED else sum(map(len, content))
                parts += (self._data[run:position], encoded_head(ITEM, "", length, encoding), *content)
                # The delimiter is the same.
                run = after if length != UNDEFINED else after - 8
            position, number = after, number + 1
        if is_delimited:
            raise BadFileFormat("the data set ends within a sequence")
        if not parts:
            return position, None
        parts.append(self._data[run:position])
        length = UNDEFINED if head.length == UNDEFINED else sum(map(len, parts))
        return position, [encoded_head(head.tag, head.vr, length, scope.encoding), *parts]

    def _item(
        self, item: Head, end: int, encoding: Encoding, tag: int, number: int, scope: Scope
    ) -> tuple[Parts, bool, int]:
        if item.tag != ITEM:
            raise BadFileFormat("a sequence holds something else than items")
        is_delimited = item.length == UNDEFINED
        stop = end if is_delimited else item.offset + item.length
        if stop > end:
            raise BadFileFormat("an item passes the end")
        rules = scope.item_rules(tag, number) if scope.rules else ()
        new: dict[int, bytes] = {}
        for each in rules:
            new.update(self._encode_rules(each, encoding))
        inner = Scope(encoding, rules, new, scope.decode, tag, scope.depth + 1, is_delimited)
        return self.dataset(item.offset, stop, inner)

    # Heads

    def _vr(self, head: Head, scope: Scope) -> str:
        if scope.encoding.explicit:
            return head.vr
        found = self._dictionary.vrs.get(head.tag)
        if found is None:
            creator = scope.creators.get(creator_tag(head.tag)) if is_private(head.tag) else None
            found = self._dictionary.vr(head.tag, creator)
        return found

    def _is_encapsulated(self, head: Head, vr: str) -> bool:
        return head.tag == PIXEL_DATA or vr in ("OB", "OW")

    def _end(self, head: Head, limit: int, scope: Scope) -> int:
        """Where an element ends."""
        if head.length != UNDEFINED:
            stop = head.offset + head.length
        elif self._is_encapsulated(head, self._vr(head, scope)):
            stop = read_fragments(self._data, head.offset, limit, scope.encoding.order, ELEMENT_LIMIT)[1]
        else:
            stop = self._end_of_items(head, limit, scope)
        if stop > limit:
            raise BadFileFormat("an element passes the end")
        return stop

    def _end_of_items(self, head: Head, limit: int, scope: Scope) -> int:
        """Where a sequence ends that does not tell its length."""
        if scope.depth >= DEPTH_LIMIT:
            raise BadFileFormat(_NO_DEPTH)
        encoding = _IMPLICIT if scope.encoding.explicit and head.vr != "SQ" else scope.encoding
        inner = Scope(encoding, (), {}, scope.decode, head.tag, scope.depth + 1)
        position = head.offset
        while position < limit:
            item = read_head(self._data, position, encoding)
            position = item.offset
            if item.tag == SEQUENCE_END:
                return position
            if item.length != UNDEFINED:
                position += item.length
                continue
            while position < limit:
                element = read_head(self._data, position, encoding)
                if element.tag == ITEM_END and not element.length:
                    position = element.offset
                    break
                position = self._end(element, limit, inner)
        raise BadFileFormat("the data set ends within a sequence")
