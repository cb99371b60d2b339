"""A farm that does as it is told: HTTPS on loopback, with a certificate made for the run."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import subprocess
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from grange._connect import Connect

TOKEN = "0123456789abcdef0123456789abcdef"
EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
LEAF = """subjectAltName=IP:127.0.0.1,DNS:localhost
basicConstraints=CA:FALSE
keyUsage=digitalSignature
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
"""


@dataclass
class Authority:
    """A CA and a certificate of it for this machine."""

    dir: Path

    def make(self) -> Authority:
        self._openssl(
            "req", "-x509", *EC, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj",
            "/CN=A farm", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
        self._openssl("req", *EC, "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=own")
        (self.dir / "own.ext").write_text(LEAF)
        self._openssl(
            "x509", "-req", "-in", "own.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
            "-CAcreateserial", "-extfile", "own.ext", "-out", "own.pem",
        )  # fmt: skip
        return self

    @property
    def pem(self) -> str:
        return (self.dir / "ca.pem").read_text()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.pem)).hexdigest()

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.dir / "own.pem", self.dir / "own.key")
        return context

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.dir, check=True, capture_output=True)


@dataclass
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


class Handler(BaseHTTPRequestHandler):
    """One connection of the farm."""

    protocol_version = "HTTP/1.1"
    server: FakeFarm

    def setup(self) -> None:
        super().setup()
        self.number = next(self.server.numbers)

    def _any(self) -> None:
        body = b""
        if self.command != "PATCH":
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/v1/ca.pem":
            return self.say(200, self.server.authority.pem.encode(), kind="text/plain")
        asked = Asked(self.command, self.path, dict(self.headers), body, self.number)
        self.server.asked.append(asked)
        answers = self.server.answers[f"{self.command} {self.path}"]
        answer = answers.popleft() if len(answers) > 1 else answers[0] if answers else None
        if answer is None:
            return self.problem(404, "not_found", f"there is nothing at {self.path}")
        return answer(self, asked)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

    def say(self, status: int, body: bytes, kind: str = "application/json", **headers) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", headers.pop("length", str(len(body))))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def json(self, value, status: int = 200, **headers) -> None:
        self.say(status, json.dumps(value).encode(), **headers)

    def problem(self, status: int, kind: str, detail: str, **headers) -> None:
        self.json({"type": f"urn:grange:{kind}", "detail": detail}, status, **headers)

    def begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def end(self) -> None:
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def hang_up(self) -> None:
        """Breaks the connection in the middle."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass


Reply = Callable[[Handler, Asked], None]


class FakeFarm(ThreadingHTTPServer):
    """Answers a path with what the test gave for it; the last answer goes on for ever."""

    daemon_threads = True

    def __init__(self, authority: Authority) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.authority = authority
        self.answers: defaultdict[str, deque[Reply]] = defaultdict(deque)
        self.asked: list[Asked] = []
        self.numbers = iter(range(1_000_000))
        self._tls = authority.context()

    def get_request(self):
        plain, address = super().get_request()
        plain.settimeout(20)
        return self._tls.wrap_socket(
            plain, server_side=True, do_handshake_on_connect=False
        ), address

    def handle_error(self, *_: object) -> None:
        """Connections break here on purpose."""

    def on(self, what: str, *answers: Reply) -> None:
        self.answers[what].extend(answers)

    @property
    def port(self) -> int:
        return self.server_address[1]

    def connect(self, ca: str | None = None, before: tuple[tuple[str, int], ...] = ()) -> Connect:
        addresses = (*before, ("127.0.0.1", self.port))
        return Connect(addresses, TOKEN, ca or self.authority.sha256)

    def paths(self) -> list[str]:
        return [f"{asked.method} {asked.path.removeprefix('/api/v1')}" for asked in self.asked]


@dataclass
class Given:
    """An answer that is always the same."""

    value: object
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, handler: Handler, _: Asked) -> None:
        handler.json(self.value, self.status, **self.headers)


class Upload:
    """An upload of a farm. Its first connections break after so many bytes each."""

    def __init__(self, farm: FakeFarm, hash: str, *breaks: int, id: str = "1") -> None:
        self.data = b""
        self.path = f"/api/v1/uploads/{id}"
        self.is_known = True
        self.headers: list[dict[str, str]] = []
        """Of each part."""
        self._hash = hash
        self._breaks = deque(breaks)
        self._blob: dict[str, object] | None = None
        farm.on(f"PATCH {self.path}", self._append)
        farm.on(f"GET {self.path}", self._tell)

    def begin(self, handler: Handler, _: Asked) -> None:
        """Answers who wants to begin."""
        handler.say(201, b"", Location=self.path)

    def _append(self, handler: Handler, asked: Asked) -> None:
        self.headers.append(asked.headers)
        left = int(asked.headers["Content-Length"])
        assert int(asked.headers["Upload-Offset"]) == len(self.data)
        if self._breaks:
            self.data += handler.rfile.read(min(left, self._breaks.popleft()))
            return handler.hang_up()
        self.data += handler.rfile.read(left)
        self._blob = {"hash": self._hash, "len": len(self.data)}
        return handler.json(self._blob, 201)

    def _tell(self, handler: Handler, _: Asked) -> None:
        if not self.is_known:
            return handler.problem(404, "not_found", "there is no such upload of yours")
        return handler.json({"offset": len(self.data), "len": 0, "blob": self._blob})
