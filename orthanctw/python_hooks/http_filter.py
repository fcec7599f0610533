"""Requests over HTTP that scripts in Python decide about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twisted.logger import Logger
from zope.interface import implementer

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.interfaces import HttpQuestion, IHttpFilter
from orthanctw.scripting import Host, Kind

log = Logger(namespace="orthanctw.plugins")
#: Numbers of ``HttpMethod``.
_METHODS: Final[Mapping[str, int]] = {"GET": 1, "POST": 2, "PUT": 3, "DELETE": 4}


@implementer(IHttpFilter)
class PythonHttpFilter:
    """What ``RegisterIncomingHttpRequestFilter`` has registered; all of them must grant."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def is_needed(self) -> bool:
        return self._host.registry.has(Kind.HTTP_FILTER)

    async def allows(self, question: HttpQuestion) -> bool:
        for registration in self._host.registry.all(Kind.HTTP_FILTER):
            keywords: dict[str, Any] = {
                "method": _METHODS[question.method],
                "ip": question.ip,
                "headers": dict(question.headers),
            }
            if question.method == "GET":
                keywords["get"] = dict(question.arguments)
            (callback,) = registration.callbacks
            answer = await self._host.ask(Kind.HTTP_FILTER.value, callback, question.uri, **keywords)
            if not isinstance(answer, bool):
                log.error("The Python {kind} must answer a bool", kind=Kind.HTTP_FILTER.value)
                raise OrthancError(code=ErrorCode.PLUGIN)
            if not answer:
                return False
        return True
