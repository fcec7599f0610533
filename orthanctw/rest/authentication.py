"""Who may call: remote access and HTTP Basic (RFC 7617)."""

from __future__ import annotations

import base64
import binascii
import functools
import hmac
import ipaddress
import secrets
from collections.abc import Mapping

from orthanctw.errors import EmptyAnswer

REALM = "Orthanc Secure Area"


def unauthorized() -> EmptyAnswer:
    """401 with the challenge."""
    return EmptyAnswer(401, (("WWW-Authenticate", f'Basic realm="{REALM}"'),))


@functools.lru_cache(maxsize=4096)
def is_local(address: str) -> bool:
    """Whether an IP address is a loopback one."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


class AccessToken:
    """A value of ``Authorization`` that lets in whoever has it, for one life of the server."""

    def __init__(self) -> None:
        self._value = ""

    def value(self) -> str:
        """The value; nobody is let in by it before it was asked for."""
        if not self._value:
            self._value = f"Bearer {secrets.token_urlsafe(32)}"
        return self._value

    def grants(self, authorization: str | None) -> bool:
        """Whether this is the value."""
        return bool(self._value) and hmac.compare_digest(self._value.encode(), (authorization or "").encode())


class Authenticator:
    """Checks each request.

    Parameters
    ----------
    remote_access : bool
        ``RemoteAccessAllowed``.
    enabled : bool
        Whether authentication is on.
    users : mapping of str to str
        ``RegisteredUsers``: passwords by name.
    token : AccessToken, optional
        Lets in without a name.
    """

    def __init__(
        self, *, remote_access: bool, enabled: bool, users: Mapping[str, str], token: AccessToken | None = None
    ) -> None:
        self._remote_access = remote_access
        self._enabled = enabled
        self._token = token or AccessToken()
        self._users = {name.encode("utf-8"): password.encode("utf-8") for name, password in users.items()}

    def authenticate(self, address: str, authorization: str | None) -> str:
        """The name of the user, empty when authentication is off, and for the token.

        Raises
        ------
        EmptyAnswer
            401, for a remote client that is not allowed, and for missing or wrong credentials.
        """
        if not self._remote_access and not is_local(address):
            raise unauthorized()
        if not self._enabled or self._token.grants(authorization):
            return ""
        name, password = _credentials(authorization)
        # An unknown name costs the same comparison as a known one.
        expected = self._users.get(name, b"")
        if not hmac.compare_digest(expected, password) or name not in self._users:
            raise unauthorized()
        return name.decode("utf-8", "replace")


def _credentials(authorization: str | None) -> tuple[bytes, bytes]:
    scheme, _, value = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        raise unauthorized()
    try:
        decoded = base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError) as e:
        raise unauthorized() from e
    name, colon, password = decoded.partition(b":")
    if not colon:
        raise unauthorized()
    return name, password
