"""Jobs as the API wants them, and what is said of what a scene does not have."""

from __future__ import annotations

import pickle

import pytest

import grange
from grange._request import Shot, Wanted, kind, ranges, resolution

SUMMARY = {
    "active": "Main",
    "scenes": [
        {"name": "Other", "frame_start": 1, "frame_end": 2, "cameras": [], "view_layers": []},
        {
            "name": "Main",
            "frame_start": 1,
            "frame_end": 48,
            "frame_step": 2,
            "frame_current": 7,
            "cameras": ["Front", "Back"],
            "view_layers": ["Layer"],
            "output": "shot_####",
        },
    ],
}
NEEDS = {"saved_by": {"major": 4, "minor": 2}, "engines": ["cycles"], "denoiser": True}


def made(wanted=None, shots=None, **options):
    rest = {"settings": {}, "chunk": 1, "preview": False} | options
    return kind(SUMMARY, "/p/a.blend", NEEDS, wanted or Wanted(), shots, **rest)


def of(*ranges_):
    return [dict(zip(("first", "last", "step"), range_, strict=True)) for range_ in ranges_]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ("47", [(47, 47, 1)]),
        ("1-24", [(1, 24, 1)]),
        (" 3, 5-10 ,1-100x4", [(3, 3, 1), (5, 10, 1), (1, 100, 4)]),
        ("-5--2", [(-5, -2, 1)]),
        (-3, [(-3, -3, 1)]),
        (range(1, 10, 4), [(1, 9, 4)]),
        (range(9, 0, -4), [(1, 9, 4)]),
        ([5, 1, 2, 2, 3], [(1, 3, 1), (5, 5, 1)]),
    ],
)
def test_frames(frames, expected):
    assert ranges(frames) == of(*expected)


@pytest.mark.parametrize("frames", ["", "a", "5-1", "1-5x0", "1..5", [], range(0), "1-20000000"])
def test_what_are_no_frames(frames):
    with pytest.raises(ValueError, match="frames"):
        ranges(frames)


def test_resolutions():
    assert resolution("1920x1080") == resolution((1920, 1080)) == {"width": 1920, "height": 1080}
    for bad in ("1920", "0x5", (70_000, 1)):
        with pytest.raises(ValueError, match="not a resolution"):
            resolution(bad)


def test_the_file_says_what_is_not_asked_for():
    animation = made()["animation"]
    assert animation == {
        "blend": "/p/a.blend",
        "needs": NEEDS,
        "settings": {},
        "chunk": 1,
        "shot": {
            "scene": None,
            "view_layer": None,
            "camera": None,
            "frames": of((1, 47, 2)),
            "resolution": None,
            "samples": None,
            "output": "shot_####",
        },
    }


def test_a_preview_is_called_after_the_file():
    assert made(preview=True)["animation"]["preview"]["output"] == "a-preview.mp4"


def test_who_renders_without_a_denoiser_needs_none():
    job = made(settings={"allow_no_denoiser": True})
    assert job["animation"]["needs"]["denoiser"] is False


def test_shots_take_what_they_leave_open_from_the_job():
    shots = [Shot("Front/1", camera="Front"), Shot("b", frames="1-2", samples=1, output="x/y")]
    job = made(Wanted(samples=9, resolution="4x2"), shots)["shots"]["shots"]
    assert [(shot["output"], shot["samples"], shot["frames"]) for shot in job] == [
        ("Front_1", 9, of((7, 7, 1))),
        ("x/y", 1, of((1, 2, 1))),
    ]
    assert job[0]["resolution"] == {"width": 4, "height": 2}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted(camera="Left"), "the scene has no camera `Left` (there are: Front, Back)"),
        (Wanted(view_layer="L"), "the scene has no view layer `L` (there are: Layer)"),
        (Wanted(scene="S"), "the file has no scene `S` (there are: Other, Main)"),
        (Wanted(scene="Other", camera="C"), "the scene has no camera `C` (there is none)"),
    ],
)
def test_names_that_there_are_not_are_told_with_those_that_there_are(wanted, message):
    with pytest.raises(ValueError) as error:
        made(wanted)
    assert str(error.value) == message


def test_a_bad_shot_is_named():
    with pytest.raises(ValueError, match=r"^shot `a`: the scene has no camera"):
        made(shots=[Shot("a", camera="x")])
    with pytest.raises(ValueError, match="no shots"):
        made(shots=[])


@pytest.mark.parametrize(
    "error",
    [
        grange.Refused(404, "urn:grange:not_found", "there is no job 9"),
        grange.JobFailed(3, "failed", "why"),
        grange.MissingFiles(["/a.png", "/b.png"]),
        grange.RemoteTraceback("Traceback …"),
        grange.InstanceLost("gone"),
    ],
)
def test_errors_cross_processes(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
