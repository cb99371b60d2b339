"""Requests over connections that break, farms that are busy, and farms that are others."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest
from breaking import Authority, Given

from grange import NotConnected, Refused
from grange._http import Api


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_one_connection_serves_many_requests_with_the_token(farm, api):
    farm.on("GET /api/v1/farm?a=1&b=x+y", Given({"farm": "ä"}))
    for _ in range(20):
        assert api.get("/farm", a=1, b="x y", c=None) == {"farm": "ä"}
    assert len({asked.connection for asked in farm.asked}) == 1
    assert farm.asked[0].headers["Authorization"].startswith("Bearer 0123")


def test_threads_share_the_connections(farm, api):
    farm.on("GET /api/v1/farm", Given(1))

    def many():
        for _ in range(25):
            api.get("/farm")

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(farm.asked) == 100
    assert len({asked.connection for asked in farm.asked}) <= 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_connections_of_its_own(farm, api):
    farm.on("GET /api/v1/farm", Given(1))
    api.get("/farm")
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if api.get("/farm") == 1 else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert api.get("/farm") == 1
    assert [asked.connection for asked in farm.asked] == [
        farm.asked[0].connection,
        farm.asked[1].connection,
        farm.asked[0].connection,
    ]
    assert farm.asked[0].connection != farm.asked[1].connection


def test_another_farm_is_told_nothing(farm, tmp_path):
    farm.on("GET /api/v1/farm", Given(1))
    with (
        Api(farm.connect(ca="0" * 64)) as api,
        pytest.raises(NotConnected, match="is not the farm"),
    ):
        api.get("/farm")
    assert farm.asked == []
    # One that shows the right certificate of the authority without having its key.
    imposter = Authority(tmp_path).make()
    farm.authority, pinned = imposter, imposter.sha256
    with Api(farm.connect(ca=pinned)) as api, pytest.raises(NotConnected, match="certificate"):
        api.get("/farm")
    assert farm.asked == []


def test_other_addresses_are_tried(farm):
    farm.on("GET /api/v1/farm", Given(1))
    dead = closed_port()
    with Api(farm.connect(before=(("127.0.0.1", dead),))) as api:
        assert api.get("/farm") == 1


def test_a_farm_that_was_never_there_is_told_at_once(farm):
    connect = farm.connect()
    farm.shutdown()
    farm.server_close()
    before = time.monotonic()
    with Api(connect) as api, pytest.raises(NotConnected, match="cannot be reached"):
        api.get("/farm")
    assert time.monotonic() - before < 1


def test_a_farm_that_is_gone_for_good_is_not_waited_for(farm, api):
    farm.on("GET /api/v1/farm", lambda h, _: (h.json(1), h.hang_up()))
    api.get("/farm")
    farm.shutdown()
    farm.server_close()
    api.is_gone = lambda: True
    before = time.monotonic()
    with pytest.raises(NotConnected, match="cannot be reached"):
        api.get("/farm")
    assert time.monotonic() - before < 1


def test_a_connection_that_was_closed_meanwhile_costs_nothing(farm, api):
    def closes(handler, _):
        handler.json(1)
        handler.hang_up()

    farm.on("GET /api/v1/farm", closes, Given(2))
    farm.on("POST /api/v1/sessions", Given(3))
    assert api.get("/farm") == 1
    time.sleep(0.1)
    # Seen before it is sent, so it goes for what may not be sent twice as well.
    assert api.post("/sessions", {}) == 3


def test_what_breaks_is_sent_again_if_it_may_be(farm, api):
    def hangs_up(handler, _):
        handler.hang_up()

    farm.on("GET /api/v1/farm", hangs_up, Given(1))
    assert api.get("/farm") == 1
    farm.on("POST /api/v1/jobs", hangs_up, Given(2), hangs_up, Given(3))
    assert api.post("/jobs", {"a": 1}, {"Idempotency-Key": "k"}) == 2
    with pytest.raises(NotConnected, match="broke"):
        api.post("/jobs", {"a": 1})
    assert api.post("/jobs", {"a": 1}) == 3


def test_an_answer_that_breaks_is_asked_for_again(farm, api):
    def half(handler, _):
        handler.say(200, b'{"a":', length="100")
        handler.hang_up()

    farm.on("GET /api/v1/farm", half, Given({"a": 1}))
    assert api.get("/farm") == {"a": 1}


def test_a_busy_farm_is_asked_again_when_it_says(farm, api):
    def busy(handler, _):
        handler.problem(503, "not_now", "try again in a moment", Retry_After="1")

    farm.on("GET /api/v1/farm", busy, Given(1))
    before = time.monotonic()
    assert api.get("/farm") == 1
    assert time.monotonic() - before >= 1
    farm.on("POST /api/v1/jobs", busy)
    with pytest.raises(Refused, match="in a moment") as refused:
        api.post("/jobs", {})
    assert refused.value.status == 503


def test_refusals_say_what_the_farm_says(farm, api):
    farm.on("GET /api/v1/farm", lambda h, _: h.problem(401, "bad_token", "the token is unknown"))
    with pytest.raises(Refused, match=r"^the token is unknown$") as refused:
        api.get("/farm")
    assert (refused.value.status, refused.value.type) == (401, "urn:grange:bad_token")
    farm.on("GET /api/v1/odd", lambda h, _: h.say(500, b"<html>", kind="text/html"))
    with pytest.raises(Refused, match="500"):
        api.get("/odd")


def test_a_closed_api_says_so(api):
    api.close()
    before = time.monotonic()
    with pytest.raises(NotConnected, match="was closed"):
        api.get("/farm")
    assert time.monotonic() - before < 0.5


def test_headers_cannot_be_smuggled(api):
    with pytest.raises(ValueError, match="header"):
        api.post("/jobs", {}, {"Idempotency-Key": "a\r\nX: y"})


def test_lines_come_as_they_are_said(farm, api):
    def tells(handler, _):
        handler.begin("application/x-ndjson")
        for part in (b"one\n\ntw", b"o\n", b"\n" + b"x" * 200_000, b"y\nlast"):
            handler.chunk(part)
        handler.end()

    farm.on("POST /api/v1/sessions/7/calls", tells)
    lines = list(api.lines("POST", "/sessions/7/calls", {"call": 1}))
    assert lines == [b"one", b"", b"two", b"", b"x" * 200_000 + b"y", b"last"]
    # Who leaves after the last line keeps the connection.
    for line in api.lines("POST", "/sessions/7/calls", {"call": 2}):
        if line == b"two":
            break
    list(api.lines("POST", "/sessions/7/calls", {"call": 3}))
    assert len({asked.connection for asked in farm.asked}) == 1


def test_lines_that_break_or_fall_silent_are_an_error(farm, api):
    def breaks(handler, _):
        handler.begin("application/x-ndjson")
        handler.chunk(b"one\n")
        handler.hang_up()

    def sleeps(handler, _):
        handler.begin("application/x-ndjson")
        handler.chunk(b"one\n")
        time.sleep(3)

    farm.on("POST /api/v1/calls", breaks, sleeps)
    for _ in range(2):
        lines = api.lines("POST", "/calls")
        assert next(lines) == b"one"
        with pytest.raises(NotConnected, match="silent"):
            next(lines)


def test_events_go_on_after_a_break_where_they_were(farm, api):
    def first(handler, _):
        handler.begin("text/event-stream")
        handler.chunk(b'retry: 10\n\n: hello\n\ndata: {"a":\ndata: 1}\n\n')
        handler.chunk(b"id: 42\r\nevent: out\r\ndata: 2\r\n\r\nid: 43\ndata: half")
        handler.hang_up()

    def second(handler, _):
        handler.begin("text/event-stream")
        handler.chunk(b"data: 3\n\n")
        handler.end()

    farm.on("GET /api/v1/events", first, second, Given(None, 401))
    events = api.events("/events")
    got = [next(events) for _ in range(3)]
    assert [event.json() for event in got] == [{"a": 1}, 2, 3]
    assert [(event.id, event.event) for event in got[:2]] == [(None, "message"), ("42", "out")]
    with pytest.raises(Refused):
        next(events)
    last = [asked.headers.get("Last-Event-ID") for asked in farm.asked]
    assert last == [None, "42", "42"]


def test_events_end_when_the_time_is_over(farm, api):
    def tells(handler, _):
        handler.begin("text/event-stream")
        handler.chunk(b"data: 1\n\n")
        time.sleep(2)

    farm.on("GET /api/v1/events", tells)
    before = time.monotonic()
    events = list(api.events("/events", until=before + 0.4))
    assert len(events) == 1
    assert 0.3 < time.monotonic() - before < 0.9
