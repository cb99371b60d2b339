"""Fixtures: a farm without a network."""

from __future__ import annotations

import pytest
from fakes import FakeFarm, upload

from grange import _scene, _session


@pytest.fixture
def farm(monkeypatch: pytest.MonkeyPatch) -> FakeFarm:
    monkeypatch.setattr(_scene, "upload", upload)
    monkeypatch.setattr(_session, "PAUSE_MIN_S", 0.001)
    return FakeFarm()
