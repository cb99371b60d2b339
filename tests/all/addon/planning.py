"""What the add-on works out without Blender: frames, names, pictures, and how long they take."""

import os
import re
import sys
from dataclasses import replace

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../../..")
sys.path.insert(0, os.path.join(ROOT, "addon"))

from plan import frames, hosts, names, pictures  # noqa: E402
from plan.progress import Progress, clock  # noqa: E402

SHOT = pictures.Shot(
    name="hero",
    scene="Scene",
    camera="Front",
    seen_by="Front",
    frames="",
    frame_now=12,
    folder="/renders",
    extension=".png",
)


def refused(saying, function, *given):
    try:
        made = function(*given)
    except ValueError as error:
        assert saying in str(error), error
        return
    raise AssertionError(f"{given} gave {made!r}")


def paths(*shots):
    return [picture.path for picture in pictures.plan(shots)]


def frames_are_read_as_people_write_them():
    assert frames.parse("", 7) == [7]
    assert frames.parse(" 12 ", 7) == [12]
    assert frames.parse("1-4", 7) == [1, 2, 3, 4]
    assert frames.parse("1-10x4, 3,2-3", 7) == [1, 5, 9, 3, 2]
    assert frames.parse("-3 - -1", 7) == [-3, -2, -1]
    refused("`a` is no frame", frames.parse, "1, a", 7)
    refused("write 2-9", frames.parse, "9-2", 7)
    refused("at least 1", frames.parse, "1-9x0", 7)
    refused("more than 100000 frames", frames.parse, "1-9999999999", 7)
    refused("more than 100000 frames", frames.parse, "1-60000,70000-140000", 7)


def names_have_tokens():
    values = names.Values("a/b", "Cam: 1", "Scene", -7)
    assert names.expand("{shot}", values) == "a_b"
    assert names.expand("{scene}/{camera}_{frame:04}", values) == "Scene/Cam_ 1_-0007"
    assert names.expand("x_####_{frame}{{}}", values) == "x_-0007_-7{}"
    assert names.expand("{shot}", replace(values, shot="..")) == "_"
    assert names.numbered("{shot}") == "{shot}_{frame:04}"
    assert names.numbered("{shot}.##") == "{shot}.##"
    refused("unknown token {shto}", names.expand, "{shto}", values)
    refused("brace without its partner", names.expand, "{shot", values)
    refused("cannot be read", names.expand, "{shot:04}", values)
    refused("cannot be read", names.expand, "{frame:x}", values)
    refused("names no file", names.expand, "", values)
    refused("names no file", names.expand, "folder/", values)
    refused("has no camera", names.expand, "{camera}", replace(values, camera=""))


def shots_become_pictures_in_order():
    assert paths(SHOT) == ["/renders/hero.png"]
    turn = replace(SHOT, name="turn", frames="1-3x2")
    assert paths(SHOT, turn) == [
        "/renders/hero.png",
        "/renders/turn_0001.png",
        "/renders/turn_0003.png",
    ]
    assert [picture.number for picture in pictures.plan([SHOT, turn])] == [1, 2, 2]
    deep = replace(SHOT, output="{scene}/{camera}.png")
    assert paths(deep) == ["/renders/Scene/Front.png"]
    assert paths(replace(SHOT, output="/else/{shot}.v2")) == ["/else/hero.v2.png"]


def what_cannot_be_is_said_before_anything_is_rendered():
    refused("nothing to render", pictures.plan, [])
    refused("shot `hero`: `x` is no frame", pictures.plan, [replace(SHOT, frames="x")])
    refused("two shots are called `hero`", pictures.plan, [SHOT, SHOT])
    other = replace(SHOT, name="other", output="hero")
    refused("shots `hero` and `other` both write hero.png", pictures.plan, [SHOT, other])


def time_left_is_by_the_work_and_not_by_the_number():
    progress = Progress([1, 1, 2])
    progress.begin(0)
    assert progress.left_s(5) is None and progress.fraction(5) == 0
    progress.finish(10)
    assert progress.left_s(10) == 30 and progress.fraction(10) == 0.25
    progress.begin(10)
    assert progress.left_s(15) == 25 and progress.fraction(15) == 0.375
    assert progress.left_s(1000) == 0 and progress.fraction(1000) < 0.5
    progress.begin(20)
    progress.finish(30)
    progress.begin(30)
    progress.finish(50)
    assert progress.left_s(50) == 0 and progress.fraction(50) == 1
    assert [clock(7), clock(205), clock(3720)] == ["0:07", "3:25", "1:02:00"]


def tags_are_written_with_commas():
    assert hosts.tags("") == hosts.tags(" , ") == ()
    assert hosts.tags("big, night ,big,") == ("big", "night")
    known = {"big", "night", "NVMe"}
    assert hosts.completed("", known) == ["NVMe", "big", "night"]
    assert hosts.completed("big,n", known) == ["big, NVMe", "big, night"]
    assert hosts.completed("big, night, b", known) == []
    assert "has the tag big: choose others" in hosts.lacking(("big",))
    assert "has all of the tags big, night: " in hosts.lacking(("big", "night"))


def versions_are_one():
    def found(path, pattern):
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            return re.search(pattern, file.read(), re.M)[1]

    one = found("Cargo.toml", r'^version = "(.+)"')
    assert found("addon/blender_manifest.toml", r'^version = "(.+)"') == one
    assert found("addon/__init__.py", r'"version": \((.+)\)').replace(", ", ".") == one


CHECKS = (
    frames_are_read_as_people_write_them,
    names_have_tokens,
    shots_become_pictures_in_order,
    what_cannot_be_is_said_before_anything_is_rendered,
    time_left_is_by_the_work_and_not_by_the_number,
    tags_are_written_with_commas,
    versions_are_one,
)
for check in CHECKS:
    check()
    print("well:", check.__name__.replace("_", " "))
print("all is well")
