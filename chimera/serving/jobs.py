"""What Ray's Jobs page says of a job that runs a mission: which one it is.

`ray job submit` takes metadata, but before the mission has an id; and the Jobs server has no call that
changes them. So the job's own driver does, in the record that the server keeps: under Ray's own names, for
which its version is pinned and a test looks at the page. The job's name is the mission's id too, unless
whoever submitted gave one.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""What Ray gives a job's driver: its submission id is in there."""


def submission_id(environ: Mapping[str, str]) -> str:
    """Of the job whose driver has this environment; "" where it is none."""
    try:
        metadata = json.loads(environ[CONFIG])["metadata"]
        return str(metadata.get("job_submission_id") or "")
    except (KeyError, ValueError, TypeError, AttributeError):
        return ""


def told(metadata: Mapping[str, str] | None, **facts: str) -> dict[str, str]:
    """A job's metadata with these facts, which replace none that it was submitted with."""
    return {"job_name": facts["mission"], **facts, **(metadata or {})}


def tell(environ: Mapping[str, str], **facts: str) -> None:
    """Write them into the metadata of the job that this process drives.

    Args:
        facts: `mission`, its id; and what else there is to say.
    Raises:
        Exception: Ray's own; the job goes on without.
    """
    raylet: Any = importlib.import_module("ray._raylet")  # untyped, as the next
    common: Any = importlib.import_module("ray.dashboard.modules.job.common")
    job = submission_id(environ)

    async def write() -> None:
        jobs = common.JobInfoStorageClient(raylet.GcsClient(address=environ["RAY_ADDRESS"]))
        known = await jobs.get_info(job)
        if known is not None:
            await jobs.put_info(job, replace(known, metadata=told(known.metadata, **facts)))

    asyncio.run(write())
