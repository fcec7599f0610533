"""Sample configurations, written from the declarations of the options."""

from __future__ import annotations

import json
import textwrap

from orthanctw.settings.options import Option, Sample, State, options_of
from orthanctw.settings.own import Orthanctw
from orthanctw.settings.sections import OWN_SECTION, SECTIONS

_WIDTH = 80


def state_text(declared: Option) -> str:
    """What the state of an option means for its user; nothing when it simply works."""
    if declared.state is State.WORKS:
        return ""
    if declared.state is State.ACCEPTED:
        return f"No effect: {declared.reason}"
    return "No effect yet"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}// ", subsequent_indent=f"{indent}// ")


def _entry(declared: Option, indent: str) -> list[str]:
    label = declared.kind.label
    sentences = [declared.meaning, label[0].upper() + label[1:]]
    if declared.kind.values:
        sentences.append(f"One of {', '.join(declared.kind.values)}")
    if declared.note:
        sentences.append(f"Unless set: {declared.note}")
    sentences.append(state_text(declared))
    lines = _comment(". ".join(sentence for sentence in sentences if sentence).replace("`", "") + ".", indent)
    # An unset option has no value that could stand for its absence.
    value = declared.kind.example if declared.default is None else json.dumps(declared.default)
    prefix = "// " if declared.default is None else ""
    return [*lines, f'{indent}{prefix}"{declared.name}" : {value},', ""]


def sample_configuration(sample: Sample) -> str:
    """A commented file of every option that belongs to `sample`, each at its default; it loads as it is."""
    lines = ["{"]
    for section in SECTIONS.values():
        options = [declared for _, declared in options_of(section) if declared.sample is sample]
        if options:
            lines += [*_comment(f"--- {(section.__doc__ or '').rstrip('.')} ---", "  "), ""]
        for declared in options:
            lines += _entry(declared, "  ")
    if sample is Sample.ADVANCED:
        lines += [*_comment("--- Options of this program alone ---", "  "), "", f'  "{OWN_SECTION}" : {{']
        for _, declared in options_of(Orthanctw):
            lines += _entry(declared, "    ")
        lines += ["  }"]
    return "\n".join([*lines, "}", ""])
