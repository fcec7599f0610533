"""Text of DICOM values: SpecificCharacterSet to Unicode (PS3.3 section C.12.1.1.2, PS3.5 section 6.1.2)."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Final

from orthanctw.errors import ParameterOutOfRange

#: Decodes the bytes of a value of a given VR; never raises.
Decoder = Callable[[bytes, str], str]

#: Orthanc's names of encodings, for ``DefaultEncoding``, with the codec and the term that is written into files.
ENCODINGS: Final[dict[str, tuple[str, str | None]]] = {
    "Ascii": ("ascii", "ISO_IR 6"),
    "Utf8": ("utf-8", "ISO_IR 192"),
    "Latin1": ("latin-1", "ISO_IR 100"),
    "Latin2": ("iso8859-2", "ISO_IR 101"),
    "Latin3": ("iso8859-3", "ISO_IR 109"),
    "Latin4": ("iso8859-4", "ISO_IR 110"),
    "Latin5": ("iso8859-9", "ISO_IR 148"),
    "Cyrillic": ("iso8859-5", "ISO_IR 144"),
    "Windows1251": ("cp1251", None),
    "Arabic": ("iso8859-6", "ISO_IR 127"),
    "Greek": ("iso8859-7", "ISO_IR 126"),
    "Hebrew": ("iso8859-8", "ISO_IR 138"),
    "Thai": ("iso8859-11", "ISO_IR 166"),
    "Japanese": ("shift_jis", "ISO_IR 13"),
    "Chinese": ("gb18030", "GB18030"),
    "JapaneseKanji": ("iso2022_jp_2", "ISO 2022 IR 87"),
    "Korean": ("euc_kr", "ISO 2022 IR 149"),
    "SimplifiedChinese": ("gb2312", "ISO 2022 IR 58"),
}
_NAMES: Final = {name.lower(): name for name in ENCODINGS}

#: Terms of SpecificCharacterSet without code extensions.
_TERMS: Final[dict[str, str]] = {
    **{term: codec for codec, term in ENCODINGS.values() if term is not None},
    "ISO_IR 203": "iso8859-15",
    "GBK": "gb18030",
    "ISO 2022 IR 159": "iso2022_jp_2",
}
_TERMS.update({term.replace("ISO_IR", "ISO 2022 IR"): codec for term, codec in tuple(_TERMS.items())})
#: With one of these, even alone, values may hold escape sequences.
_EXTENDING: Final = frozenset({"iso2022_jp_2", "euc_kr", "gb2312"})

_ESCAPE: Final = re.compile(rb"\x1b(\$\(D|\$\)[AC]|\$[@B]|\([BJ]|\)I|[-.][A-HLMTbV])")
_ANY_ESCAPE: Final = re.compile(rb"\x1b[\x20-\x2f]+[\x30-\x7e]|\x1b")
#: Sets for G1, which holds the bytes over 0x7F; a set for G0 is decoded together with its escape sequence.
_G1_SETS: Final[dict[bytes, str]] = {
    b"$)A": "gb2312",
    b"$)C": "euc_kr",
    b")I": "shift_jis",
    b"-A": "latin-1",
    b"-B": "iso8859-2",
    b"-C": "iso8859-3",
    b"-D": "iso8859-4",
    b"-F": "iso8859-7",
    b"-G": "iso8859-6",
    b"-H": "iso8859-8",
    b"-L": "iso8859-5",
    b"-M": "iso8859-9",
    b"-T": "iso8859-11",
    b"-b": "iso8859-15",
}
_G0_SETS: Final = frozenset({b"$B", b"$@", b"$(D"})
_DELIMITERS: Final = re.compile(rb"[\\\t\n\f\r]")
_NAME_DELIMITERS: Final = re.compile(rb"[\\^=\t\n\f\r]")


def canonical_encoding(name: str) -> str:
    """Orthanc's spelling of an encoding's name, in whatever case it is given. Raises ParameterOutOfRange."""
    found = _NAMES.get(name.lower())
    if found is None:
        raise ParameterOutOfRange("unknown encoding")
    return found


class DefaultEncoding:
    """The encoding of what names none, ``DefaultEncoding``; changed while the server runs.

    Parameters
    ----------
    name : str
        Name in `ENCODINGS`, in any case. Raises ParameterOutOfRange for another.
    """

    def __init__(self, name: str = "Latin1") -> None:
        self.set(name)

    def set(self, name: str) -> None:
        """Take another one from now on. Raises ParameterOutOfRange."""
        self.name = canonical_encoding(name)

    @property
    def term(self) -> str:
        """Its SpecificCharacterSet; that of UTF-8 when it has none."""
        return ENCODINGS[self.name][1] or "ISO_IR 192"


def term_codec(term: str) -> str | None:
    """The codec of a single term of SpecificCharacterSet, or None."""
    return _TERMS.get(term)


def _ascii_only(raw: bytes) -> str:
    return _ANY_ESCAPE.sub(b"", raw).decode("ascii", "ignore")


def _extended(raw: bytes, vr: str, initial: str) -> str:
    """Decode with ISO 2022 code extensions; `initial` is the codec at the start and after each delimiter."""
    delimiters = _NAME_DELIMITERS if vr == "PN" else _DELIMITERS
    parts = _ESCAPE.split(raw)
    result = [parts[0].decode(initial)]
    g1 = initial
    for escape, fragment in zip(parts[1::2], parts[2::2], strict=True):
        if escape in _G0_SETS:
            result.append((b"\x1b" + escape + fragment).decode("iso2022_jp_2"))
            continue
        g1 = _G1_SETS.get(escape, g1)
        end = delimiters.search(fragment)
        split = len(fragment) if end is None else end.start()
        result.append(fragment[:split].decode(g1))
        if end is not None:
            g1 = initial
            result.append(fragment[split:].decode(g1))
    return "".join(result)


@functools.lru_cache(maxsize=256)
def decoder(specific_character_set: str | None, default_encoding: str = "Latin1") -> tuple[Decoder, bool]:
    """How values are decoded, and whether values that are all ASCII may need it (they hold escape sequences).

    Parameters
    ----------
    specific_character_set : str or None
        Value of (0008,0005), several terms joined by a backslash; None or empty takes `default_encoding`.
    default_encoding : str
        Name in `ENCODINGS`.

    Text that cannot be decoded loses its bytes outside ASCII; so does all text of an unknown character set.
    """
    terms = [term.strip(" \0") for term in (specific_character_set or "").split("\\")]
    codec = ENCODINGS[default_encoding][0] if terms == [""] else _TERMS.get(terms[0], "ascii")
    escapes = len(terms) > 1 or codec in _EXTENDING
    initial = "ascii" if codec == "iso2022_jp_2" else codec

    def decode(raw: bytes, vr: str) -> str:
        try:
            if escapes and b"\x1b" in raw:
                return _extended(raw, vr, initial)
            return raw.decode(initial)
        except UnicodeError:
            return _ascii_only(raw)

    return decode, escapes
