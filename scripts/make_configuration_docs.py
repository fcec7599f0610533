"""Make docs/configuration.md from the declarations of the options.

Usage: python scripts/make_configuration_docs.py
"""

from __future__ import annotations

import json
from pathlib import Path

from orthanctw.settings import OWN_SECTION, SECTIONS, Option, Orthanctw, PythonSection, State, Worklists, options_of
from orthanctw.settings.plugin_sections import BUILT_IN, PLUGIN_SECTIONS
from orthanctw.settings.structures import JobThreads, LogWarnings, Modality, Peer, Pkcs11

TARGET = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"

_RULES = """\
# Configuration

<!-- Made by scripts/make_configuration_docs.py: change the declarations in orthanctw/settings instead. -->

## Files

* `orthanctw PATH...` reads files, and all `*.json` files of folders (not of their subfolders), in the order of their
  names. An option may stand in one file only. Without a path, every option has its default.
* A file is one JSON object in UTF-8. `//` and `/* */` comments, commas after the last element and a byte order mark
  are allowed. Of a key that is given twice in one object the last one counts, with a warning.
* `${NAME}` and `${NAME:-default}` are replaced from the environment anywhere in the text, before it is parsed; quotes
  around the default are dropped. A variable that is not set and has no default becomes nothing.
* Relative paths are relative to the folder of the file that they stand in. Those of defaults are relative to the
  folder of the first path, or to the current folder without one.
* An option that is unknown is ignored with a warning. A value of the wrong type or out of its range, and options that
  contradict one another, keep the server from starting; all such problems are told at once, with the path to the key.
* `orthanctw --check PATH...` tells what is wrong without starting. `orthanctw --config=FILE` and
  `orthanctw --advanced-config=FILE` write commented samples (`-`: to the standard output).

## States

* **works**: the option does what it says.
* **accepted**: the option is read and checked, and never has an effect, for the reason given.
* **later**: the option is read and checked, and has no effect yet. A warning tells so at the start when it is set to
  something else than its default.

## Checks at the start

* With `RemoteAccessAllowed` and authentication, `RegisteredUsers` must be given. When it has no users, every request
  is refused, which a warning tells. Another one names accounts whose password everybody knows.
* Certificates, keys and cipher suites of `SslEnabled` and of DICOM must be there and belong together: see
  [security.md](security.md).
* Quotas (`MaximumStorageSize`, `MaximumPatientCount`) need `PatientLevelEnabled`.
* `OverwriteInstances` as `IfChanged` needs `StoreMD5ForAttachments`.
* `DicomAet` has 1 to 16 characters.
* With `DicomTlsEnabled`, `DicomTlsRemoteCertificateRequired` needs `DicomTlsTrustedCertificates`, and
  `DicomTlsMinimumProtocolVersion` other than 0 needs `DicomTlsCiphersAccepted`.
* With `Worklists.Enable`, worklists lie either in `Worklists.Directory` or in the index (`SaveInOrthancDatabase`).
* `UserMetadata` and `UserContentType` give each number once, and no name of the server's own. `ExtraMainDicomTags`
  gives each tag of a level once.
"""

_STRUCTURES = (
    (
        "DicomModalities",
        Modality,
        "An array of AE title, host, port and maybe manufacturer, or an object. Names consist of letters, digits, `-` "
        "and `_`. The manufacturers `AgfaImpax`, `SyngoVia`, `EFilm2`, `MedInria`, `ClearCanvas` and `Dcm4Chee` are "
        "obsolete names that are still read.",
    ),
    (
        "OrthancPeers",
        Peer,
        "An array of the URL, or of the URL, user name and password, or an object. Names consist of letters, digits, "
        "`-` and `_`. Any other key of the object is a property of the user's own, kept as text.",
    ),
    ("Warnings", LogWarnings, "An object."),
    ("JobsEngineThreadsCount", JobThreads, "An object."),
    ("Pkcs11", Pkcs11, "An object."),
)


def _default(declared: Option) -> str:
    if declared.required:
        return "required"
    if declared.default is None:
        return f"unset: {declared.note}"
    return f"`{json.dumps(declared.default)}`"


def _type(declared: Option) -> str:
    values = ", ".join(f"`{value}`" for value in declared.kind.values)
    return f"{declared.kind.label}: {values}" if values else declared.kind.label


def _table(section: type, *, states: bool = True) -> list[str]:
    lines = ["| option | type | default | state | meaning |", "|---|---|---|---|---|"]
    if not states:
        lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for _, declared in options_of(section):
        meaning = declared.meaning
        if declared.aliases:
            meaning += f". Obsolete spelling: {', '.join(f'`{alias}`' for alias in declared.aliases)}"
        if declared.state is State.ACCEPTED:
            meaning += f". No effect: {declared.reason}"
        cells = [f"`{declared.name}`", _type(declared), _default(declared)]
        cells += [declared.state.value] if states else []
        lines.append(f"| {' | '.join([*cells, meaning])} |")
    return [*lines, ""]


def document() -> str:
    """The whole page."""
    lines = [_RULES, "## Options", ""]
    for name, section in SECTIONS.items():
        lines += [f"### {name.capitalize()}", "", (section.__doc__ or "").strip(), "", *_table(section)]
    lines += [f"## The section `{OWN_SECTION}`", "", "Options that only this program has.", "", *_table(Orthanctw)]
    lines += ["## The section `Worklists`", "", "See [worklists.md](worklists.md).", "", *_table(Worklists)]
    lines += ["## The section `Python`", "", "See [python.md](python.md).", "", *_table(PythonSection)]
    lines += ["## Structures", ""]
    for option, section, text in _STRUCTURES:
        lines += [f"### Entries of `{option}`", "", text, "", *_table(section, states=False)]
    lines += [
        "### Others",
        "",
        "* `RegisteredUsers`: an object of user names, which have no colon, and passwords.",
        "* `Dictionary`: an object whose keys are tags `gggg,eeee` (a private tag: `gggg,ee` with the low byte of its "
        "element), and whose values are arrays of VR, name, and maybe minimum and maximum multiplicity (1; 0: any "
        "maximum) and private creator.",
        "* `UserMetadata`: an object of names and numbers from 1024 to 65535.",
        "* `UserContentType`: the same; instead of a number, an array of it and a MIME type.",
        "* `ExtraMainDicomTags`: an object of `Patient`, `Study`, `Series`, `Instance`, and arrays of tags by name or "
        "as `gggg,eeee`.",
        "",
        "## Plugins",
        "",
        "The sections of these plugins are known and kept; none has an effect yet, which a warning tells: "
        + ", ".join(f"`{name}`" for name in PLUGIN_SECTIONS if name not in BUILT_IN)
        + ".",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Write the page."""
    TARGET.write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
