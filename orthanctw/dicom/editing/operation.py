"""What a child does to change an object."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import attrs
import orjson

from orthanctw.dicom.charset import ENCODINGS, decoder
from orthanctw.dicom.dictionary import Dictionary, dictionary_of
from orthanctw.dicom.editing.identity import Identity, identity_of
from orthanctw.dicom.editing.modification import Modification
from orthanctw.dicom.editing.plan import Plan, Rules, plan_of
from orthanctw.dicom.editing.rewriting import Parts, Rewriter, Scope
from orthanctw.dicom.elements import (
    DEFLATED_LITTLE_ENDIAN,
    SPECIFIC_CHARACTER_SET,
    Buffer,
    Elements,
    Encoding,
    encoded_head,
    read_head,
)
from orthanctw.dicom.encoding import encode_dataset, text_bytes
from orthanctw.dicom.filemeta import file_head
from orthanctw.dicom.pixels.sink import Sink
from orthanctw.dicom.pixels.source import mapped_file
from orthanctw.dicom.reencode import reencode
from orthanctw.dicom.scanner import ScannedFile, encoding_of, inflate, meta_end, scan
from orthanctw.errors import BadFileFormat

_SOP_CLASS_UID: Final = 0x00080016
_REFERENCED_SOP_INSTANCE_UID: Final = 0x00081155
_SOURCE_IMAGE_SEQUENCE: Final = 0x00082112
_UTF8: Final = "ISO_IR 192"


def edit_operation(header: Mapping[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
    """Change an object.

    The payload is the JSON of a `Modification`, ``ModificationLength`` bytes, and the file unless there is a ``Path``.
    Other fields: those of `file_request`; ``Key`` in hexadecimal digits; ``OldInstance``, the SOPInstanceUID before
    the object was transcoded, or empty; ``Version`` of the server; ``Dictionary``, the description of the server's;
    ``DefaultEncoding``; ``Output``, the path of a file to make when the result has more than ``Threshold`` bytes. The
    answer has ``Old`` and ``New`` identifiers and ``TransferSyntax``; its payload is the object unless it is in the
    file.
    """
    length = int(header["ModificationLength"])
    dictionary = dictionary_of(header["Dictionary"])
    plan = _plan(payload[:length], header["Dictionary"], header["Version"])
    with mapped_file(header, payload[length:]) as data:
        scanned = scan(data, default_encoding=header["DefaultEncoding"], dictionary=dictionary)
        identity = identity_of(scanned, plan, bytes.fromhex(header["Key"]), header["OldInstance"])
        edit = _Edit(
            scanned=scanned,
            plan=plan,
            identity=identity,
            dictionary=dictionary,
            default_encoding=header["DefaultEncoding"],
        )
        with Sink(header["Output"], int(header["Threshold"])) as sink:
            for part in edit.file_parts(data):
                sink.write(part)
            return {
                "Old": identity.old,
                "New": identity.new,
                "TransferSyntax": scanned.transfer_syntax,
            }, sink.content()


@functools.lru_cache(maxsize=8)
def _plan(modification: bytes, dictionary: str, version: str) -> Plan:
    return plan_of(Modification.from_json(orjson.loads(modification)), dictionary_of(dictionary), version)


@attrs.frozen(kw_only=True)
class _Edit:
    """One object that is being changed."""

    scanned: ScannedFile
    plan: Plan
    identity: Identity
    dictionary: Dictionary
    default_encoding: str

    def file_parts(self, data: Buffer) -> Parts:
        """The new file, in pieces. Raises BadFileFormat."""
        syntax = self.scanned.transfer_syntax
        start = meta_end(data)
        if syntax == DEFLATED_LITTLE_ENDIAN:
            data, start = inflate(data, start), 0
        try:
            parts = self._dataset(data, start, encoding_of(syntax))
        except struct.error:
            raise BadFileFormat("the data set ends within an element") from None
        if syntax == DEFLATED_LITTLE_ENDIAN:
            parts = _deflated(parts)
        sop_class = self.plan.rules.replaced.get(_SOP_CLASS_UID)
        class_uid = sop_class[2] if sop_class is not None else self.scanned.text(_SOP_CLASS_UID)
        try:
            return [file_head(class_uid or "", self.identity.new[3], syntax), *parts]
        except UnicodeEncodeError:
            raise BadFileFormat("a UID is not one") from None

    def _dataset(self, data: Buffer, start: int, encoding: Encoding) -> Parts:
        own = self.scanned.charset or ENCODINGS[self.default_encoding][1] or ""
        character_set = self._character_set(own)
        elements = {**self.plan.rules.replaced, **{element[0]: element for element in self.identity.elements()}}
        new = _encoded(list(elements.values()), encoding, character_set, self.dictionary)
        if character_set != own or (self.plan.texts and not self.scanned.charset) or self.plan.character_set:
            value = text_bytes(character_set, "CS", "")
            new[SPECIFIC_CHARACTER_SET] = encoded_head(SPECIFIC_CHARACTER_SET, "CS", len(value), encoding) + value
        rewriter = Rewriter(
            data,
            self.dictionary,
            self.plan,
            self.identity,
            lambda rules, inner: _encoded(list(rules.replaced.values()), inner, character_set, self.dictionary),
            partial(_text_bytes, character_set),
            character_set != own,
            self.default_encoding,
        )
        decode = decoder(self.scanned.charset, self.default_encoding)[0]
        rules = (self.plan.rules, *self._own_source())
        return rewriter.whole(start, Scope(encoding, rules, new, decode), self.scanned.by_tag.keys())

    def _own_source(self) -> tuple[Rules, ...]:
        """Lossy transcoding names the instance before it as the source; nothing is its own source, under a new name."""
        old, new = self.identity.old[3], self.identity.new[3]
        is_itself = self.plan.profile is not None or old == new
        if not is_itself or old == self.identity.written_instance:
            return ()
        element = self.scanned.by_tag.get(_SOURCE_IMAGE_SEQUENCE)
        items = element[2] if element is not None and isinstance(element[2], list) else []
        if [inner[2] for item in items for inner in item if inner[0] == _REFERENCED_SOP_INSTANCE_UID] != [old]:
            return ()
        return (Rules(removed={_SOURCE_IMAGE_SEQUENCE}),)

    def _character_set(self, own: str) -> str:
        """That of the result: the one that is asked for, else the object's, UTF-8 when this cannot hold new text."""
        chosen = self.plan.character_set or own
        try:
            for text, vr in self.plan.texts:
                text_bytes(text, vr, chosen)
        except ValueError:
            if self.plan.character_set:
                raise _unfit(chosen) from None
            return _UTF8
        return chosen


def _encoded(
    elements: Elements, encoding: Encoding, character_set: str, dictionary: Dictionary
) -> dict[int, bytes]:
    """Elements, each on its own, by their tags."""
    if not elements:
        return {}
    data = encode_dataset(elements, explicit=encoding.explicit, character_sets=(character_set,))
    little = Encoding(encoding.explicit)
    if encoding != little:
        data = reencode(data, 0, len(data), little, encoding, dictionary)
    result, position = {}, 0
    while position < len(data):
        head = read_head(data, position, encoding)
        end = head.offset + head.length
        result[head.tag] = data[position:end]
        position = end
    result.pop(SPECIFIC_CHARACTER_SET, None)
    return result


def _text_bytes(character_set: str, text: str, vr: str) -> bytes:
    try:
        return text_bytes(text, vr, character_set)
    except ValueError:
        raise _unfit(character_set) from None


def _unfit(character_set: str) -> BadFileFormat:
    return BadFileFormat(f"There is text that cannot be written in the character set {character_set}")


def _deflated(parts: Parts) -> Parts:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    result: Parts = [*map(deflater.compress, parts), deflater.flush()]
    return [*result, bytes(sum(map(len, result)) % 2)]
