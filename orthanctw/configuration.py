"""Reading configuration files and folders (level 2)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from orthanctw.errors import ConfigurationError
from orthanctw.settings import Settings
from orthanctw.settings.commented_json import decode, parse

_SUFFIX: Final = ".json"
_INTERFACES: Final = "/sys/class/net"


def load(paths: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings of files, and of all ``*.json`` files of folders, merged; without paths, the defaults.

    Relative paths in a file are relative to its folder, defaults to that of the first path, or to the current folder
    without one. Raises ConfigurationError with all problems of all files that can be told at once.
    """
    problems: list[str] = []
    warnings: list[str] = []
    merged: dict[str, object] = {}
    origins: dict[str, str] = {}
    for file in _files(paths, problems):
        for key, value in _read(file, environ, problems, warnings).items():
            if key in merged:
                problems.append(f"{key}: given in {origins[key]} and in {file}")
            else:
                merged[key] = value
                origins[key] = file
    if problems:
        raise ConfigurationError(problems)
    bases = {key: _folder(file) for key, file in origins.items()}
    base = _folder(paths[0]) if paths else os.getcwd()
    settings = Settings.parse(merged, base, bases)
    path = os.path.abspath(paths[0]) if paths else ""
    return attrs.evolve(settings, path=path, warnings=(*warnings, *settings.warnings))


def mac_addresses() -> tuple[str, ...]:
    """Hardware addresses of the network interfaces, for `Settings.server_identifier`; empty where unknown."""
    found = set()
    try:
        for name in os.listdir(_INTERFACES):
            with open(os.path.join(_INTERFACES, name, "address"), encoding="ascii") as file:
                found.add(file.read(64).strip())
    except (OSError, ValueError):
        return ()
    return tuple(sorted(found))


def _folder(path: str) -> str:
    absolute = os.path.abspath(path)
    return absolute if os.path.isdir(absolute) else os.path.dirname(absolute)


def _files(paths: Sequence[str], problems: list[str]) -> list[str]:
    """The files to read, each once, in order."""
    files: dict[str, str] = {}
    for path in paths:
        try:
            if os.path.isdir(path):
                names = sorted(name for name in os.listdir(path) if name.lower().endswith(_SUFFIX))
                found = [os.path.join(path, name) for name in names if os.path.isfile(os.path.join(path, name))]
            elif os.path.isfile(path):
                found = [path]
            else:
                found = []
                problems.append(f"{path}: {'not a regular file' if os.path.exists(path) else 'no such file or folder'}")
        except (OSError, ValueError) as error:
            problems.append(f"{path}: {_reason(error)}")
            continue
        for file in found:
            files.setdefault(os.path.realpath(file), file)
    return list(files.values())


def _read(
    file: str, environ: Mapping[str, str], problems: list[str], warnings: list[str]
) -> Mapping[str, object]:
    """The top-level object of one file; empty after a problem was reported."""
    try:
        with open(file, "rb") as stream:
            data = stream.read()
        document = parse(decode(data, file), file, environ)
    except OSError as error:
        problems.append(f"{file}: {_reason(error)}")
        return {}
    except ConfigurationError as error:
        problems += error.problems
        return {}
    if not isinstance(document.value, dict):
        problems.append(f"{file}:1:1: an object is needed at the top")
        return {}
    warnings += document.warnings
    return document.value


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
