"""Where a connect string is found, and what is said of one that is none."""

from __future__ import annotations

import pytest

import grange
from grange._connect import Connect, find

TOKEN = "5b6963e0aab1ed4f672b585318e07455"
CA = "0a6af999" * 8
TEXT = f"grange+https://{TOKEN}@farm.example:4747?ca={CA}&or=192.0.2.10:4747&or=[::1]:1"


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    monkeypatch.delenv("GRANGE_CONNECT", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_it_is_a_url():
    connect = Connect.parse(f" {TEXT}\n")
    assert connect.addresses == (("farm.example", 4747), ("192.0.2.10", 4747), ("::1", 1))
    assert (connect.token, connect.ca) == (TOKEN, CA)
    assert TOKEN not in repr(connect)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "farm.example:4747",
        TEXT.replace("grange+https", "https"),
        TEXT.replace(CA, "0a"),
        TEXT.replace(TOKEN, TOKEN[:-1]),
        TEXT.replace(TOKEN + "@", ""),
        TEXT.replace(":4747?", "?"),
        TEXT.replace(":4747&", ":port&"),
    ],
)
def test_what_is_none_is_told_without_the_secret(text):
    with pytest.raises(ValueError, match="connect string") as error:
        Connect.parse(text)
    assert TOKEN not in str(error.value)


def test_argument_environment_file(monkeypatch, tmp_path):
    assert not grange.is_configured()
    with pytest.raises(grange.NotConnected) as error:
        grange.connect()
    for hint in ("grange token create --api --role submitter", "grange.local()", "GRANGE_CONNECT"):
        assert hint in str(error.value)
    (tmp_path / "grange").mkdir()
    (tmp_path / "grange" / "connect").write_text(TEXT.replace("farm.example", "file") + "\n")
    assert find().addresses[0][0] == "file" and grange.is_configured()
    monkeypatch.setenv("GRANGE_CONNECT", TEXT.replace("farm.example", "environment"))
    assert find().addresses[0][0] == "environment"
    assert find(TEXT).addresses[0][0] == "farm.example"
