"""The program of a local farm: found, started, stopped, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

import grange
from grange.local import Local, command, find_program

CONNECT = f"grange+https://{'ab' * 16}@127.0.0.1:1?ca={'cd' * 32}"
SERVES = f"""#!{sys.executable}
import sys, os, json
print("odd", file=sys.stderr)
os.write(1, b'{{"connect": "{CONNECT[:20]}')
os.write(1, b'{CONNECT[20:]}"}}\\n')
open(sys.argv[0] + ".pid", "w").write(str(os.getpid()))
sys.stdin.buffer.read()
os.unlink(sys.argv[0] + ".pid")
"""
FAILS = f"""#!{sys.executable}
import sys
sys.exit("grange: there is no Blender here")
"""


@pytest.fixture
def program(tmp_path):
    def make(text):
        path = tmp_path / "grange"
        path.write_text(text)
        path.chmod(0o755)
        return path

    return make


def gone(path) -> bool:
    for _ in range(50):
        if not path.exists():
            return True
        time.sleep(0.1)
    return False


def test_it_ends_when_it_is_closed(program, tmp_path):
    path = program(SERVES)
    local = Local([str(path)], tmp_path / "logs" / "farm.log")
    assert local.connect.addresses == (("127.0.0.1", 1),)
    local.close()
    local.close()
    assert gone(tmp_path / "grange.pid")
    assert (tmp_path / "logs" / "farm.log").read_text() == "odd\n"


def test_it_ends_with_the_process_that_started_it(program, tmp_path):
    path = program(SERVES)
    script = "import sys, time; from grange.local import Local; Local(sys.argv[1:]); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script, str(path)])
    pid = tmp_path / "grange.pid"
    for _ in range(100):
        if pid.exists() and pid.read_text():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert gone(pid)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_does_not_keep_it(program, tmp_path):
    local = Local([str(program(SERVES))])
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    try:
        local.close()
        assert gone(tmp_path / "grange.pid")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_what_does_not_start_says_why(program):
    with pytest.raises(grange.NotConnected, match=r"did not start: grange: there is no Blender"):
        grange.local(program=program(FAILS))


def test_where_the_program_is(program, monkeypatch, tmp_path):
    monkeypatch.delenv("GRANGE_PROGRAM", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(grange.GrangeError, match=r"not on the PATH.*GRANGE_PROGRAM"):
        grange.local()
    path = str(program(FAILS))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program() == path
    monkeypatch.setenv("GRANGE_PROGRAM", "/there/is/none")
    with pytest.raises(grange.GrangeError, match="no program at /there/is/none"):
        find_program()
    assert find_program(path) == path


def test_its_command_line(program):
    path = str(program(FAILS))
    words = command(instances=3, blender=["/a", "/b"], sandbox=False, memory_gib=1.5, program=path)
    assert words == [
        path, "--json", "local", "--until-stdin-closes", "--instances", "3",
        "--blender", "/a,/b", "--sandbox", "off", "--memory-gib", "1.5",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="at least 1"):
        command(instances=0, blender=None, sandbox=None, memory_gib=None, program=path)
