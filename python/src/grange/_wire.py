"""Connections to a farm: TLS that trusts one certificate, kept alive, shared between threads.

Owns sockets and nothing else: what a request means, and whether it may be sent twice, is decided
in `_http`. The farm is its own authority, so its certificate is fetched without trust, compared
with the hash in the connect string, and trusted alone from then on.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from weakref import WeakSet

from ._connect import Connect
from .errors import NotConnected

CONNECT_S = 5.0
"""For one address to accept a connection and to show its certificate."""
IDLE_S = 20.0
"""A farm closes a connection that was idle for 30 s; one this old is not used any more."""
IDLE_MAX = 16
"""Idle connections that are kept."""
PIECE = 256 << 10
"""Bytes that are sent in one go; each has the whole timeout."""
CA_MAX = 64 << 10
"""Bytes of a certificate."""

Broken = (OSError, http.client.HTTPException)
"""What a connection raises that broke. TLS errors and timeouts are `OSError`s."""


class Connection:
    """One connection. It has one request at a time."""

    def __init__(self, sock: ssl.SSLSocket, host: str, *, fresh: bool) -> None:
        self.sock = sock
        self.host = host
        self.fresh = fresh
        """Whether this is its first request, so that it cannot have been closed meanwhile."""
        self.idle_since = 0.0

    def send(self, head: bytes, body: bytes | Iterable[memoryview], timeout_s: float) -> None:
        """Sends a request. A small body goes out together with the head."""
        self.sock.settimeout(timeout_s)
        if isinstance(body, bytes):
            if len(body) <= PIECE:
                self.sock.sendall(head + body)
                return
            view = memoryview(body)
            body = (view[at : at + PIECE] for at in range(0, len(view), PIECE))
        self.sock.sendall(head)
        for piece in body:
            self.sock.sendall(piece)

    def answer(self, method: str) -> http.client.HTTPResponse:
        """Waits for the head of the answer."""
        response = http.client.HTTPResponse(self.sock, method=method)
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        return response

    def is_stale(self) -> bool:
        """Whether the farm has closed it, or has said what nobody asked for."""
        if time.monotonic() - self.idle_since > IDLE_S:
            return True
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(self.sock, select.POLLIN)
            return bool(poll.poll(0))
        return bool(select.select([self.sock], [], [], 0)[0])

    def close(self) -> None:
        """Closes it; what is under way is lost."""
        with contextlib.suppress(OSError):
            self.sock.close()

    def shut(self) -> None:
        """Ends it for a thread that is waiting for it, whose read or write breaks at once."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class Wire:
    """The connections to one farm."""

    def __init__(self, connect: Connect) -> None:
        self.connect = connect
        self.met = False
        """Whether the farm has ever been reached."""
        self._context: ssl.SSLContext | None = None
        self._first = 0
        self.closed = False
        """Whether nobody may use it any more."""
        self._reset()

    def take(self) -> Connection:
        """A connection that nobody uses. Raises `NotConnected` if no address answers."""
        if self._pid != os.getpid():
            # A fork: the sockets are still the parent's, who goes on to use them.
            self._reset()
        while True:
            with self._lock:
                if self.closed:
                    raise NotConnected("this farm was closed: connect again with grange.connect()")
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._open()
            if not connection.is_stale():
                connection.fresh = False
                return connection
            connection.close()

    def abort(self) -> None:
        """Closes all connections, also those in use."""
        self.close()
        for connection in list(self._open_ones):
            connection.shut()

    def give_back(self, connection: Connection) -> None:
        """Returns a connection whose answer was read to its end."""
        connection.idle_since = time.monotonic()
        with self._lock:
            if not self.closed and len(self._idle) < IDLE_MAX and self._pid == os.getpid():
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Closes the idle connections; those in use are closed when they are given back."""
        with self._lock:
            self.closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._open_ones: WeakSet[Connection] = WeakSet()
        """All that there are, in use or not."""

    def _open(self) -> Connection:
        """A new connection to the first address that answers, the one of last time first."""
        addresses = self.connect.addresses
        problems: list[str] = []
        for at in range(len(addresses)):
            choice = (self._first + at) % len(addresses)
            host, port = addresses[choice]
            try:
                connection = self._dial(host, port)
            except NotConnected as error:
                problems.append(str(error))
            except Broken as error:
                problems.append(f"{host}:{port}: {why(error)}")
            else:
                self._first = choice
                self.met = True
                return connection
        raise NotConnected(
            f"the farm cannot be reached ({'; '.join(problems)}): see that its coordinator runs "
            "and that the connect string is up to date"
        )

    def _dial(self, host: str, port: int) -> Connection:
        if self._context is None:
            self._context = trusting(self._certificate(host, port))
        sock = _handshake(self._context, host, port)
        connection = Connection(sock, _host_header(host, port), fresh=True)
        self._open_ones.add(connection)
        return connection

    def _certificate(self, host: str, port: int) -> str:
        """The farm's CA certificate (PEM), which is the one in the connect string."""
        # Whoever answers may be anybody, so nothing secret is said before this is checked.
        anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anybody.check_hostname = False
        anybody.verify_mode = ssl.CERT_NONE
        with _handshake(anybody, host, port) as sock:
            name = _host_header(host, port)
            ask = f"GET /api/v1/ca.pem HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
            sock.sendall(ask.encode("ascii"))
            with http.client.HTTPResponse(sock, method="GET") as answer:
                answer.begin()
                pem = answer.read(CA_MAX).decode("ascii", "replace")
        try:
            hash = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
        except ValueError:
            hash = ""
        if hash != self.connect.ca:
            raise NotConnected(
                f"{host}:{port} is not the farm of the connect string: its certificate is another, "
                "so ask the farm's admin for a new connect string"
            )
        return pem


def trusting(pem: str) -> ssl.SSLContext:
    """TLS that trusts one certificate and nothing else."""
    context = ssl.create_default_context(cadata=pem)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def why(error: BaseException) -> str:
    """What broke, in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good ({error.verify_message})"
    if isinstance(error, socket.gaierror):
        return "there is no such host"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _host_header(host: str, port: int) -> str:
    if ":" in host:
        return f"[{host}]:{port}"
    return f"{host if host.isascii() else host.encode('idna').decode('ascii')}:{port}"


def _handshake(context: ssl.SSLContext, host: str, port: int) -> ssl.SSLSocket:
    plain = socket.create_connection((host, port), timeout=CONNECT_S)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise
