"""Jobs that are followed and fetched, and sessions that are kept alive."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest
from breaking import Given

import grange
from grange._alive import Alive
from grange.jobs import Job

SUBMITTED_MS = 1_700_000_000_000


def view(state="active", done=0, **more):
    counts = dict.fromkeys(
        ("total", "waiting", "ready", "running", "completed", "failed", "canceled"), 0
    )
    progress = {
        "tasks": counts,
        "frames_total": 2,
        "frames_done": done,
        "fraction": done / 2,
        "frames_per_minute": 0.0,
        "seconds_left": None,
        "outputs": done,
        "output_bytes": 3 * done,
    }
    return {
        "id": 7,
        "name": "shot",
        "kind": "animation",
        "submitter": "ada",
        "state": state,
        "priority": 50,
        "reason": None,
        "submitted_at": SUBMITTED_MS,
        "ended_at": None,
        "kept": False,
        "tags": [],
        "progress": progress,
    } | more


def output(cursor, name):
    blob = {"hash": "ab" * 32, "len": 3}
    made = {"name": name, "role": "frame", "frame": cursor, "blob": blob}
    return {"cursor": cursor, "step": 0, "task": cursor, "output": made}


def events(*told, breaks=False):
    def serve(handler, _):
        handler.begin("text/event-stream")
        handler.chunk(b"retry: 10\n\n")
        for event in told:
            id = event["output"]["output"]["cursor"] if "output" in event else None
            head = "" if id is None else f"id: {id}\n"
            handler.chunk(f"{head}data: {json.dumps(event)}\n\n".encode())
        if breaks:
            handler.hang_up()
        else:
            time.sleep(2)

    return serve


def committed(cursor, name):
    return {"output": {"job": 7, "output": output(cursor, name)}}


@pytest.fixture
def job(api):
    return Job(api, view("queued"))


FOLLOW = "GET /api/v1/jobs/7/events?outputs_after=0"
REST = "GET /api/v1/jobs/7/outputs?cursor="


def test_outputs_are_saved_as_they_come_also_over_a_break(farm, job, tmp_path):
    farm.on(
        FOLLOW,
        events({"job": view()}, "caughtup", committed(1, "0001.png"), breaks=True),
        events({"job": view(done=1)}, "caughtup", {"job": view("completed", 2)}),
    )
    # The last output's news came too late.
    farm.on(f"{REST}1", Given({"items": [output(2, "d/ä 2.exr")], "next": None}))
    for name in ("0001.png", "d/%C3%A4%202.exr"):
        farm.on(f"GET /api/v1/jobs/7/outputs/{name}", lambda h, _: h.say(200, b"abc"))
    told = []
    saved = job.fetch(tmp_path, lambda *, total, completed: told.append((completed, total)))
    assert saved == [tmp_path / "0001.png", tmp_path / "d" / "ä 2.exr"]
    assert [path.read_bytes() for path in saved] == [b"abc", b"abc"]
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert job.state == "completed"


def running(sample):
    progress = {"stage": "rendering", "fraction": sample / 8, "sample": sample, "samples": 8}
    task = {"step": 0, "task": 1, "label": "frame 2", "state": "running", "agent": "host"}
    task["device"] = 1
    return {"task": {"job": 7, "task": task | {"progress": progress, "failures": []}}}


def told_of(job, changes):
    """Changes in a few words."""
    for change in changes:
        if change is None:
            yield job.state
        elif isinstance(change, grange.Output):
            yield change.name
        else:
            on = f"{change.agent}/{change.device}"
            yield f"{change.label} on {on}: {change.sample}/{change.samples}"


WHOLE = ["active", "frame 2 on host/1: 3/8", "0001.png", "completed", "0002.png"]


def test_changes_are_told_as_they_come(farm, job):
    last = {"job": view("completed", 2)}
    farm.on(FOLLOW, events({"job": view()}, running(3), "caughtup", committed(1, "0001.png"), last))
    farm.on(f"{REST}1", Given({"items": [output(2, "0002.png")], "next": None}))
    assert list(told_of(job, job.changes())) == WHOLE


def test_changes_are_also_found_by_asking(farm, job):
    def detail(view, *tasks):
        return Given({"job": view, "steps": [], "tasks": [task["task"]["task"] for task in tasks]})

    farm.on("GET /api/v1/jobs/7", detail(view(), running(3)), detail(view("completed", 2)))
    farm.on(f"{REST}0", Given({"items": [output(1, "0001.png")], "next": None}))
    farm.on(f"{REST}1", Given({"items": [output(2, "0002.png")], "next": None}))
    assert list(told_of(job, job.changes(poll_s=0.01))) == WHOLE


def test_whoever_listens_is_woken_by_an_abort(farm, api, job):
    def hang(handler, _):
        handler.begin("text/event-stream")
        handler.chunk(b'data: "caughtup"\n\n')
        began.set()
        time.sleep(10)

    began = threading.Event()
    farm.on(FOLLOW, hang)
    ended: list[BaseException] = []

    def listen():
        try:
            list(job.changes())
        except grange.NotConnected as error:
            ended.append(error)

    listener = threading.Thread(target=listen)
    listener.start()
    assert began.wait(10)
    api.abort()
    listener.join(8)
    assert ended, "still listening"


def test_whole_files_are_kept_and_those_of_before_are_not(farm, job, tmp_path):
    over = events({"job": view("completed", 2)}, committed(1, "a"), committed(2, "b"), "caughtup")
    farm.on(FOLLOW, over)
    farm.on(f"{REST}2", Given({"items": [], "next": None}))
    for name in "ab":
        farm.on(f"GET /api/v1/jobs/7/outputs/{name}", lambda h, _: h.say(200, b"new"))
        (tmp_path / name).write_bytes(b"old")
    os.utime(tmp_path / "a", (SUBMITTED_MS / 1000 - 60,) * 2)
    job.fetch(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "b").read_bytes() == b"old"


def test_a_name_that_leaves_the_folder_is_refused(farm, job, tmp_path):
    for name in ("../x", "/etc/x", "a//b", "."):
        farm.answers.clear()
        farm.on(
            "GET /api/v1/jobs/7/outputs?cursor=0", Given({"items": [output(1, name)], "next": None})
        )
        (found,) = job.outputs(follow=False)
        with pytest.raises(grange.GrangeError, match="which is no place for a file"):
            found.save(tmp_path)


def test_a_failed_job_is_told_after_what_there_is_was_saved(farm, job, tmp_path):
    over = events(committed(1, "a"), {"job": view("failed", 1, reason="no memory")}, "caughtup")
    farm.on(FOLLOW, over)
    farm.on(f"{REST}1", Given({"items": [], "next": None}))
    farm.on("GET /api/v1/jobs/7/outputs/a", lambda h, _: h.say(200, b"abc"))
    with pytest.raises(grange.JobFailed, match="no memory") as failed:
        job.fetch(tmp_path)
    assert (failed.value.job, failed.value.state) == (7, "failed")
    assert (tmp_path / "a").exists()
    assert len(job.fetch(tmp_path, check=False)) == 1


def test_waiting_has_an_end(farm, job):
    farm.on(f"GET /api/v1/jobs/7/events?outputs_after={2**62}", events({"job": view()}, "caughtup"))
    before = time.monotonic()
    with pytest.raises(TimeoutError, match="job 7"):
        job.wait(0.3)
    assert time.monotonic() - before < 0.9


def test_lists_come_in_pages(farm, api):
    farm.on("GET /api/v1/jobs", Given({"items": [view(id=9)], "next": "9"}))
    farm.on("GET /api/v1/jobs?cursor=9", Given({"items": [view(id=7)], "next": None}))
    assert [job.id for job in grange.Farm(api).jobs()] == [9, 7]


def test_room_is_what_the_devices_want_to_run(farm, api):
    def agent(state, *slots, tags=()):
        states = [{"slots": count} for count in slots]
        return {"state": state, "device_states": states, "tags": list(tags)}

    there = [agent("online", 2, 3), agent("online", 4, tags=["big", "night"]), agent("offline", 9)]
    farm.on("GET /api/v1/agents", Given(there), Given(there), Given(there), Given([]))
    connected = grange.Farm(api)
    assert connected.room() == 9
    assert connected.room(["big"]) == 4
    assert connected.room(["big", "day"]) == 1
    assert connected.room() == 1
    with pytest.raises(ValueError, match=r"write \['big'\] for one tag"):
        connected.room("big")


def test_sessions_are_kept_while_they_are_wanted(farm, api):
    farm.on("POST /api/v1/sessions/alive", Given({"ended": []}), Given({"ended": [8]}))
    alive, ended = Alive(api, every_s=0.1), threading.Event()
    alive.hold(7)
    alive.hold(8, ended.set)
    assert ended.wait(3)
    time.sleep(0.15)
    said = [json.loads(asked.body)["sessions"] for asked in farm.asked]
    assert said[0] == [7, 8]
    assert said[-1] == [7]
    alive.let_go(7)
    time.sleep(0.1)
    count = len(farm.asked)
    time.sleep(0.3)
    assert len(farm.asked) == count
    assert not any(thread.name == "grange-alive" for thread in threading.enumerate())


def test_closing_a_farm_ends_its_sessions(farm, api):
    farm.on("DELETE /api/v1/sessions/7", Given({}))
    with grange.Farm(api) as connected:
        connected._hold(7)
        connected._hold(8)
    assert farm.paths() == ["DELETE /sessions/7", "DELETE /sessions/8"]
    connected.close()
