"""What the command line says beside the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import attrs

from orthanctw.settings.sections import Settings

LOG_CATEGORIES: Final = ("generic", "plugins", "http", "sqlite", "dicom", "jobs", "lua")


@attrs.frozen(kw_only=True)
class RunOptions:
    """How to run the server.

    `log_levels` maps a category, or ``*`` for all others, to ``default``, ``verbose`` or ``trace``. `logdir` and
    `logfile` are None when not given. `reload` reads the configuration again; it raises ConfigurationError.
    """

    paths: tuple[str, ...] = ()
    log_levels: Mapping[str, str] = attrs.field(default=MappingProxyType({}))
    logdir: str | None = None
    logfile: str | None = None
    no_jobs: bool = False
    upgrade: bool = False
    reload: Callable[[], Settings] = Settings.defaults
