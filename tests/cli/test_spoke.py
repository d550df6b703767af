"""`chimera spoke`: what it says to an environment that makes none; that it waits, and ends as it is told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

from chimera.runtime.base import Base
from chimera.store.users import as_role
from tests.cli.conftest import Shell


async def test_an_environment_that_makes_no_spoke_is_refused_with_the_next_step(shell: Shell) -> None:
    done = await shell("spoke")
    assert (done.code, "set CHIMERA_SPOKE_TENANT" in done.err) == (2, True)
    named = replace(shell, environment={**shell.environment, "CHIMERA_SPOKE_TENANT": "acme"})
    done = await named("spoke")
    assert (done.code, "`chimera tenant login acme`" in done.err) == (2, True)


async def test_a_spoke_whose_password_is_wrong_says_so_waits_and_ends_when_told(
    shell: Shell, base: Base, tenant: str
) -> None:
    url = as_role(base.settings, "spoke", tenant).redis_url
    assert url is not None
    wrong = url.get_secret_value().replace("@", "0@")
    environment = {"CHIMERA_SPOKE_TENANT": tenant, "CHIMERA_REDIS_URL": wrong}
    process = await replace(shell, environment={**shell.environment, **environment}).start("spoke")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        said = json.loads(await process.stdout.readline())
        assert (said["event"], said["role"], said["tenant"]) == ("spoke.waiting", "spoke", tenant)
        assert "refuses the login" in said["fields"]["error"]
        assert f"`chimera tenant login {tenant}`" in said["message"]
        process.terminate()
        rest, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert json.loads(rest.splitlines()[-1])["event"] == "spoke.ended"
    assert wrong.partition("@")[0].rpartition(":")[2] not in rest.decode()
