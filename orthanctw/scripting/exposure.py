"""What scripts call: checks of their arguments, and their exception."""

from __future__ import annotations

import functools
import inspect
import os
import typing
from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any, Final, NewType, ParamSpec, TypeVar

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError

F = TypeVar("F", bound=Callable[..., Any])
_P = ParamSpec("_P")
_T = TypeVar("_T")
_MARK: Final = "__orthanc_exposed__"
#: An argument that takes what is like bytes, text (as UTF-8) and None (for nothing).
Data = NewType("Data", bytes)


class OrthancException(Exception):
    """A call of the server has failed; `args` are the number of ``ErrorCode`` and a text."""

    __module__ = "orthanc"


def exception_of(error: OrthancError) -> OrthancException:
    """What a script sees of a failure of the server."""
    return OrthancException(int(error.code), error.details or error.code.message)


def failure(code: ErrorCode, details: str = "") -> OrthancException:
    """A failure of the module itself."""
    return OrthancException(int(code), details or code.message)


def gives_object(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Failures of a function whose answer is an object or text have one code: Orthanc tells scripts no other."""

    @functools.wraps(function)
    def call(*arguments: _P.args, **keywords: _P.kwargs) -> _T:
        try:
            return function(*arguments, **keywords)
        except OrthancError as e:
            raise failure(ErrorCode.INTERNAL_ERROR, str(e)) from None

    return call


def check_process(server: int) -> None:
    """OrthancException in a process that is not the server: a child of it."""
    if os.getpid() != server:
        raise failure(ErrorCode.BAD_SEQUENCE_OF_CALLS, "A child process cannot call the server; use its REST API")


def exposed(function: F) -> F:
    """Mark a method as a function or method of the module ``orthanc``; its parameters are positional only.

    Arguments are checked by the annotations: ``str``, ``int``, ``float``, `Data`, classes of the module (or None when
    the annotation says so). TypeError. ``Any`` is not checked.
    """
    setattr(function, _MARK, True)
    return function


def exposed_names(owner: type) -> Iterator[str]:
    """Names of what a class exposes."""
    return (name for name, value in inspect.getmembers(owner) if getattr(value, _MARK, False))


def checked(function: Callable[..., Any], *, name: str = "") -> Callable[..., Any]:
    """A function that checks its arguments before it calls `function`, whose first parameter may be ``self``."""
    hints = typing.get_type_hints(function)
    parameters = list(inspect.signature(function).parameters)
    is_method = parameters[:1] == ["self"]
    checks = [_check_of(hints.get(parameter), parameter) for parameter in parameters[is_method:]]

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        own = arguments[is_method:]
        if len(own) != len(checks):
            raise TypeError(f"{name or function.__name__}() takes {len(checks)} arguments, not {len(own)}")
        try:
            return function(
                *arguments[:is_method], *(check(value) for check, value in zip(checks, own, strict=True))
            )
        except OrthancError as e:
            raise exception_of(e) from None

    return call


def _check_of(hint: Any, name: str) -> Callable[[Any], Any]:
    """What takes a value of an argument: gives it back in its type, or raises TypeError."""
    if hint is Data:
        return lambda value: _data(value, name)
    if hint is None or hint is Any:
        return lambda value: value
    kinds: tuple[type, ...] = typing.get_args(hint) or (hint,)
    if kinds == (float,):
        kinds = (float, int)

    def check(value: Any) -> Any:
        if not isinstance(value, kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(f"argument {name} must be {wanted}, not {type(value).__name__}")
        if isinstance(value, str) and "\0" in value:
            raise TypeError(f"argument {name} has a null character")
        return value

    return check


def _data(value: Any, name: str) -> bytes:
    if value is None:
        return b""
    if isinstance(value, str):
        return value.encode("utf-8")
    try:
        return bytes(memoryview(value))
    except TypeError:
        raise TypeError(f"argument {name} must be bytes, not {type(value).__name__}") from None


class Method:
    """A method for scripts; to ``inspect`` a method descriptor, as one of a class written in C is."""

    def __init__(self, call: Callable[..., Any]) -> None:
        functools.update_wrapper(self, call)
        self._call = call

    def __get__(self, instance: object, owner: type | None = None) -> Callable[..., Any]:
        return self if instance is None else MethodType(self._call, instance)

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)


def exposed_class(owner: type, name: str = "") -> type:
    """A class for scripts: its exposed methods, with checks. The class itself is changed."""
    for method in exposed_names(owner):
        setattr(owner, method, Method(checked(getattr(owner, method))))
    owner.__module__ = "orthanc"
    owner.__qualname__ = owner.__name__ = name or owner.__name__
    return owner


def exposed_functions(area: object) -> Mapping[str, Callable[..., Any]]:
    """The functions that an object exposes, by their names."""
    return {name: _function(getattr(area, name)) for name in exposed_names(type(area))}


def _function(bound: Callable[..., Any]) -> Callable[..., Any]:
    checking, server = checked(bound), os.getpid()

    @functools.wraps(checking)
    def call(*arguments: Any) -> Any:
        check_process(server)
        return checking(*arguments)

    call.__module__ = "orthanc"
    call.__qualname__ = call.__name__
    return call
