"""Fixtures: a farm on loopback that does as it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from breaking import Authority, FakeFarm

from grange._hashes import Hashes
from grange._http import Api


@pytest.fixture(scope="session")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority")).make()


@pytest.fixture
def farm(authority) -> Iterator[FakeFarm]:
    farm = FakeFarm(authority)
    thread = threading.Thread(target=farm.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield farm
    farm.shutdown()
    farm.server_close()


@pytest.fixture
def api(farm, tmp_path) -> Iterator[Api]:
    with Api(farm.connect(), hashes=Hashes(tmp_path / "cache" / "hashes.sqlite")) as api:
        yield api


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch) -> None:
    """What is waited for in earnest takes a tenth of that here."""
    monkeypatch.setattr("grange._http.PATIENCE_S", 3.0)
    monkeypatch.setattr("grange._http.SILENCE_S", 1.0)
    monkeypatch.setattr("grange._answers.PAUSE_S", 0.05)
