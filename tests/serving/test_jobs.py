"""What a job's driver adds to the metadata that Ray's Jobs page shows."""

from __future__ import annotations

import json

import pytest

from chimera.serving import jobs

FACTS = {"mission": "m-1", "tenant": "acme"}


def test_a_job_carries_its_mission_and_is_named_by_it() -> None:
    assert jobs.told(None, **FACTS) == {"job_name": "m-1", **FACTS}


def test_what_whoever_submitted_said_stays() -> None:
    given = {"job_name": "nightly", "tenant": "theirs", "team": "a"}
    assert jobs.told(given, **FACTS) == {**given, "mission": "m-1"}


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", '{"metadata": null}', '{"metadata": {}}'])
def test_a_driver_of_no_job_has_no_submission_id(text: str) -> None:
    assert jobs.submission_id({}) == jobs.submission_id({jobs.CONFIG: text}) == ""


def test_a_jobs_driver_finds_its_submission_id() -> None:
    config = json.dumps({"runtime_env": {}, "metadata": {"job_submission_id": "raysubmit_1"}})
    assert jobs.submission_id({jobs.CONFIG: config}) == "raysubmit_1"
