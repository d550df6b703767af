"""Who deploys the hub waits for the head as long as its start is tried."""

from __future__ import annotations

import pytest


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")  # Ray Serve's import
def test_who_deploys_outlasts_every_attempt_to_start_the_head() -> None:
    from chimera.serving import deploy
    from chimera.serving.local import ray_head

    assert deploy.HEAD_S > ray_head.ATTEMPTS * ray_head.START_S
