"""Prints what a Grange farm tells, after a look at its signature. Needs nothing but Python.

SECRET=whsec_... python receiver.py [PORT]
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

KEY = base64.b64decode(os.environ["SECRET"].removeprefix("whsec_"))
TOLERANCE_S = 5 * 60

# Ids of events that were taken: a farm that did not hear the answer says the same again. A receiver
# that may be restarted keeps them in its database.
taken: set[str] = set()


def is_from_the_farm(headers: dict[str, str], body: bytes) -> bool:
    """Whether someone who knows the secret sent this body, and lately."""
    name, sent_at = headers["webhook-id"], headers["webhook-timestamp"]
    signed = b".".join([name.encode(), sent_at.encode(), body])
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    signatures = headers["webhook-signature"].split()
    is_signed = any(hmac.compare_digest(one, "v1," + expected) for one in signatures)
    return is_signed and abs(time.time() - int(sent_at)) < TOLERANCE_S


class Receiver(BaseHTTPRequestHandler):
    """Answers at once; whatever takes long belongs elsewhere."""

    def do_POST(self) -> None:
        """One event."""
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            is_good = is_from_the_farm(headers, body)
        except (KeyError, ValueError):
            is_good = False
        if is_good and headers["webhook-id"] not in taken:
            taken.add(headers["webhook-id"])
            event = json.loads(body)
            about = event["data"].get("name", "")
            print(event["timestamp"], event["farm"], event["type"], about, flush=True)
        self.send_response(204 if is_good else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing of requests."""


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    server = HTTPServer(("127.0.0.1", port), Receiver)
    print("listening on port", server.server_port, flush=True)
    server.serve_forever()
