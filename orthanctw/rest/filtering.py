"""Who decides whether a request over HTTP is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from orthanctw.errors import EmptyAnswer, OrthancError, ServiceUnavailable
from orthanctw.interfaces import HttpQuestion, IHttpFilter
from orthanctw.rest.errors import FURTHER_METHODS, METHODS

if TYPE_CHECKING:
    from orthanctw.rest.site import OrthancRequest

log = Logger(namespace="orthanctw.http")
#: What filters are told of a method: they know four. Methods that are not here are refused in any case.
_ASKED_AS: Final[Mapping[str, str]] = {
    **dict.fromkeys(FURTHER_METHODS, "PUT"),
    **{method: method for method in METHODS},
    "OPTIONS": "GET",
    "PROPFIND": "GET",
}


def question_of(request: OrthancRequest) -> HttpQuestion | None:
    """What filters are asked about a request; None for one that nobody answers."""
    method = _ASKED_AS.get(request.method.decode("latin-1"))
    if method is None:
        return None
    headers = request.requestHeaders.getAllRawHeaders()
    return HttpQuestion(
        method=method,
        uri="/" + "/".join(request.segments),
        ip=request.client.host,
        username=request.username,
        headers={name.decode("latin-1").lower(): values[0].decode("utf-8", "replace") for name, values in headers},
        arguments=tuple(request.arguments.items()),
    )


async def refusal(filters: Sequence[IHttpFilter], question: HttpQuestion) -> OrthancError | None:
    """Why a request is not answered; None when it is. What gives no answer refuses it."""
    try:
        for each in filters:
            if each.is_needed() and not await each.allows(question):
                return EmptyAnswer(403)
    except ServiceUnavailable as e:
        log.warn("{method} {uri} is refused: {reason}", method=question.method, uri=question.uri, reason=e.details)
        return EmptyAnswer(403)
    except OrthancError as e:
        return e
    except CancelledError:
        raise
    except Exception:  # noqa: BLE001 - whatever it is, nobody gets in
        log.failure("A filter of requests has failed")
        return OrthancError()
    return None
