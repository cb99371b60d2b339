"""A real farm, if `GRANGE_CONNECT` names one: `grange local` prints what to set it to."""

from __future__ import annotations

import os

import pytest

import grange

pytestmark = pytest.mark.skipif(
    not os.environ.get("GRANGE_CONNECT"), reason="GRANGE_CONNECT names no farm"
)


def test_a_farm_does_a_job_once_and_tells_of_it(tmp_path):
    submission = {
        "name": "a test",
        "queue_anyway": True,
        "kind": {"noop": {"tasks": 3, "millis": 1}},
    }
    with grange.connect() as farm:
        assert farm.room() >= 1
        path = tmp_path / "a file"
        path.write_bytes(os.urandom(300_000))
        blob = farm.api.upload(path)
        assert farm.api.missing([blob.hash]) == set()
        farm.api.download(f"/blobs/{blob.hash}", tmp_path / "again", blob.len)
        assert (tmp_path / "again").read_bytes() == path.read_bytes()
        key = {"Idempotency-Key": os.urandom(8).hex()}
        ids = {farm.api.post("/jobs", submission, key)["id"] for _ in range(2)}
        assert len(ids) == 1
        job = farm.job(ids.pop()).wait(60)
        assert job.state == "completed"
        assert job.fetch(tmp_path / "out") == []
        assert next(iter(farm.jobs())).id >= job.id
        with pytest.raises(grange.Refused, match="is kept"):
            job.keep().delete()
        job.release().delete()
        with pytest.raises(grange.Refused) as refused:
            job.refresh()
        assert refused.value.status == 410
        with pytest.raises(grange.Refused) as refused:
            farm.job(4_000_000)
        assert refused.value.status == 404
