"""The whole configuration as one frozen value."""
# The calls below declare fields, they make no shared defaults.
# ruff: noqa: RUF009

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import attrs

from orthanctw.errors import ConfigurationError
from orthanctw.settings.checks import check
from orthanctw.settings.core import Database, General, Jobs, Lua, Performance, Storage, Transcoding
from orthanctw.settings.kinds import Place, described
from orthanctw.settings.options import WORKS, names_of, object_kind, option, read_section, warn_unknown
from orthanctw.settings.own import Orthanctw
from orthanctw.settings.plugin_sections import BUILT_IN, PLUGIN_SECTIONS
from orthanctw.settings.python import Python, PythonSection
from orthanctw.settings.services import Dicom, Http, Network, Security
from orthanctw.settings.worklists import Worklists

#: Classes of the sections whose options stand at the top level, by the field of `Settings`.
SECTIONS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "general": General,
        "storage": Storage,
        "database": Database,
        "http": Http,
        "security": Security,
        "dicom": Dicom,
        "network": Network,
        "transcoding": Transcoding,
        "jobs": Jobs,
        "lua": Lua,
        "python": Python,
        "performance": Performance,
    }
)
#: The key of our own options.
OWN_SECTION: Final = "Orthanctw"


@attrs.frozen(kw_only=True)
class _Own:
    orthanctw: Orthanctw = option(OWN_SECTION, object_kind(Orthanctw), {}, WORKS, "Options of this program alone")


@attrs.frozen(kw_only=True)
class _BuiltIn:
    worklists: Worklists = option("Worklists", object_kind(Worklists), {}, WORKS, "Modality worklists")
    python: PythonSection = option("Python", object_kind(PythonSection), {}, WORKS, "Scripts in Python")


def known_names() -> tuple[str, ...]:
    """Every key that may stand at the top level."""
    return (*names_of([*SECTIONS.values(), _Own]), *PLUGIN_SECTIONS)


@attrs.frozen(kw_only=True)
class Settings:
    """The configuration: a section per group, values typed and in the unit that the option has.

    `plugin_sections` are the sections of plugins as they are; `worklists` and `python_section` are two of them, typed;
    `document` is what they all were read from, `path` where it lies; `warnings` are for the log at the start.
    """

    general: General = attrs.field(factory=General)
    storage: Storage = attrs.field(factory=Storage)
    database: Database = attrs.field(factory=Database)
    http: Http = attrs.field(factory=Http)
    security: Security = attrs.field(factory=Security)
    dicom: Dicom = attrs.field(factory=Dicom)
    network: Network = attrs.field(factory=Network)
    transcoding: Transcoding = attrs.field(factory=Transcoding)
    jobs: Jobs = attrs.field(factory=Jobs)
    lua: Lua = attrs.field(factory=Lua)
    python: Python = attrs.field(factory=Python)
    performance: Performance = attrs.field(factory=Performance)
    orthanctw: Orthanctw = attrs.field(factory=Orthanctw)
    worklists: Worklists = attrs.field(factory=Worklists)
    python_section: PythonSection = attrs.field(factory=PythonSection)
    plugin_sections: Mapping[str, object] = attrs.field(default=MappingProxyType({}), repr=False)
    document: Mapping[str, object] = attrs.field(default=MappingProxyType({}), repr=False, eq=False)
    path: str = attrs.field(default="", eq=False)
    warnings: tuple[str, ...] = ()

    @property
    def sections(self) -> tuple[object, ...]:
        """Every section with options of the top level, our own, and those of plugins that are built in."""
        return (*(getattr(self, field) for field in SECTIONS), self.orthanctw, self.worklists, self.python_section)

    @classmethod
    def defaults(cls, base: str = "") -> Settings:
        """The settings without a file; relative paths are below the folder `base`."""
        return cls.parse({}, base)

    @classmethod
    def parse(cls, document: Mapping[str, object], base: str, bases: Mapping[str, str] | None = None) -> Settings:
        """The settings of a merged document.

        Relative paths are below `base`, or for a top-level key in `bases` below the folder given there. Raises
        ConfigurationError with all problems, each with the path to its key.
        """
        top = Place(base=base)

        def place(name: str) -> Place:
            return attrs.evolve(top.key(name), base=(bases or {}).get(name, base))

        warn_unknown(document, known_names(), place)
        values: dict[str, object] = {
            field: read_section(section, document, place) for field, section in SECTIONS.items()
        }
        own = read_section(_Own, document, place)
        values["orthanctw"] = own.orthanctw if own else None
        built_in = read_section(_BuiltIn, document, place)
        values["worklists"] = built_in.worklists if built_in else None
        values["python_section"] = built_in.python if built_in else None
        plugins = {name: document[name] for name in PLUGIN_SECTIONS if name in document}
        for name in PLUGIN_SECTIONS:
            if name not in BUILT_IN and not isinstance(plugins.get(name, {}), dict):
                place(name).problem(f"an object is needed, not {described(plugins[name])}")
        usable = {field: value for field, value in values.items() if value is not None}
        settings = cls(
            **usable,  # type: ignore[arg-type]
            plugin_sections=MappingProxyType(plugins),
            document=document,
        )
        check(settings, document, top)
        if top.problems:
            raise ConfigurationError(top.problems)
        return attrs.evolve(settings, warnings=tuple(top.warnings))

    @property
    def python_scripts(self) -> tuple[str, ...]:
        """Paths of the scripts in Python, in their order."""
        first = self.python.python_script or self.python_section.path
        return tuple(dict.fromkeys((*([first] if first else []), *self.orthanctw.python_scripts)))

    def server_identifier(self, mac_addresses: Iterable[str]) -> str:
        """``DatabaseServerIdentifier``, or the digest that stands for it: five groups of 8 hexadecimal digits."""
        if self.database.database_server_identifier:
            return self.database.database_server_identifier
        parts = [
            f"aet={self.dicom.dicom_aet}",
            f"dicom-port={self.dicom.dicom_port}",
            f"http-port={self.http.http_port}",
            *(f"mac={address}" for address in mac_addresses),
        ]
        digest = hashlib.sha1("|".join(sorted(parts)).encode()).hexdigest()
        return "-".join(digest[start : start + 8] for start in range(0, 40, 8))
