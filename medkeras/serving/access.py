"""Who may call: bearer tokens, TLS, where a browser's call comes from."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import pathlib
import ssl
import tempfile
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from medkeras import errors
from medkeras.serving import http_limits, options

SHORTEST_TOKEN = 16
_SCHEMES = 'Basic realm="medkeras", Bearer'
_OWN_SITES = (b"same-origin", b"none", b"")


class Tokens:
    """The tokens of a file, one `name token` a line; `#` begins a comment.

    Only their SHA-256 is kept.

    Raises:
        ConfigError: The file cannot be read, or a line is not a name and a token of at least 16 characters.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        lines = [line.split("#")[0].split() for line in _read(path).decode("utf-8", "replace").splitlines()]
        self._digests: dict[str, bytes] = {}
        for number, words in enumerate(lines, start=1):
            if words:
                self._add(words, f"{errors.printable(path)}, line {number}")
        if not self._digests:
            raise errors.ConfigError(
                f"A token file has at least one token. Received: {errors.printable(path)} with none"
            )

    def _add(self, words: list[str], place: str) -> None:
        # The line itself is a secret: the message does not show it.
        if len(words) != 2 or len(words[1]) < SHORTEST_TOKEN:
            raise errors.ConfigError(
                f"A token file has a name and a token of {SHORTEST_TOKEN} or more characters a line. Received: {place}"
            )
        if words[0] in self._digests:
            raise errors.ConfigError(f"The names in a token file differ. Received: {words[0]!r} again in {place}")
        self._digests[words[0]] = _digest(words[1].encode())

    def user(self, authorization: bytes) -> str | None:
        """Returns the name of the token in an `Authorization` header, `Bearer` or the password of `Basic`; or None."""
        given, found = _digest(_token(authorization)), None
        for name, digest in self._digests.items():
            # All are compared, so that the time tells nothing.
            if hmac.compare_digest(given, digest):
                found = name
        return found


def admit(tokens: Tokens | None, headers: Mapping[bytes, bytes], call: http_limits.Call) -> None:
    """Names the user of a call; raises `RefusedError`, 401, where tokens are on and none is there."""
    if tokens is None:
        return
    user = tokens.user(headers.get(b"authorization", b""))
    if user is None:
        raise http_limits.RefusedError(401, "This server needs a token", (("WWW-Authenticate", _SCHEMES),))
    call.user = user


def refuse_strangers(headers: Mapping[bytes, bytes], *, open_loopback: bool) -> None:
    """Refuses what another site makes a browser send.

    Args:
        headers: Of the request, names in lower case.
        open_loopback: Whether being on this machine is all that a caller must show: then the host that he names must be
            this machine too, or a name server could point any site's name at it.

    Raises:
        RefusedError: 403.
    """
    host = headers.get(b"host", b"").decode("latin-1")
    origin = headers.get(b"origin", b"").decode("latin-1")
    foreign = headers.get(b"sec-fetch-site", b"") not in _OWN_SITES
    if foreign or (origin and urllib.parse.urlsplit(origin).netloc.lower() != host.lower()):
        raise http_limits.RefusedError(403, "Another site may not call this page")
    if open_loopback and not options.is_loopback(_hostname(host)):
        raise http_limits.RefusedError(403, "This page answers to the names of this machine alone")


class GrpcTokens(grpc.ServerInterceptor):
    """Refuses gRPC calls without a token: metadata `authorization: Bearer TOKEN`."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._refuse = grpc.unary_unary_rpc_method_handler(_unauthenticated)

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Goes on to the method if there is a token."""
        given = dict(handler_call_details.invocation_metadata).get("authorization", "")
        if self._tokens.user(given if isinstance(given, bytes) else given.encode()) is None:
            return self._refuse
        return continuation(handler_call_details)


class Certificate:
    """What TLS needs, on both ports.

    Args:
        key: The key, PEM.
        chain: The certificate and those above it, PEM.
        clients: The certificates that sign those of clients, PEM; empty: clients show none.
    """

    def __init__(self, *, key: bytes, chain: bytes, clients: bytes = b"") -> None:
        self.key, self.chain, self.clients = key, chain, clients

    def context(self) -> ssl.SSLContext:
        """Returns what HTTPS needs: TLS 1.2 or newer; raises `ConfigError` if the texts do not belong together."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self._load(context)
        except (ssl.SSLError, ValueError):
            raise errors.ConfigError("TLS needs a certificate and its own key, as PEM. Received: others") from None
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        with tempfile.TemporaryDirectory() as folder:
            place = pathlib.Path(folder, "both.pem")
            place.touch(mode=0o600)
            place.write_bytes(self.key + b"\n" + self.chain)
            context.load_cert_chain(place)
        if self.clients:
            context.load_verify_locations(cadata=self.clients.decode())
            context.verify_mode = ssl.CERT_REQUIRED

    def credentials(self) -> grpc.ServerCredentials:
        """Returns what gRPC needs, which speaks TLS 1.2 or newer only."""
        return grpc.ssl_server_credentials(
            [(self.key, self.chain)], self.clients or None, require_client_auth=bool(self.clients)
        )


def certificate(chosen: options.Options) -> Certificate | None:
    """Returns the certificate that the options name, or None."""
    if not chosen.tls_certificate:
        return None
    return Certificate(key=_read(chosen.tls_key), chain=_read(chosen.tls_certificate))


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise errors.ConfigError(f"{errors.printable(path)}: {error.strerror}") from None


def _token(authorization: bytes) -> bytes:
    scheme, _, rest = authorization.strip().partition(b" ")
    if scheme.lower() != b"basic":
        return rest.strip() if scheme.lower() == b"bearer" else b""
    try:
        return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _hostname(host: str) -> str:
    try:
        return urllib.parse.urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _unauthenticated(_: Any, context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "This server needs a token")
