"""`chimera doctor` on the users of Redis: silent when each role has its own, or none is asked for."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from chimera.cli import doctor
from chimera.runtime.base import Base
from chimera.runtime.users import reconcile
from chimera.store.users import logged_in


async def test_it_is_silent_when_every_role_has_a_user(base: Base) -> None:
    assert await doctor.users(base.settings) == []
    assert await doctor.users(base.settings.model_copy(update={"redis_users": "single"})) == []


async def test_it_names_users_that_nobody_makes(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "USERS_TRIES", 1)
    await base.redis.execute_command("ACL DELUSER", "chimera.judge")
    (found,) = await doctor.users(base.settings)
    assert "users of roles are missing" in found.problem
    assert "CHIMERA_REDIS_URL" in found.fix
    await reconcile(base)


async def test_it_says_what_to_do_where_redis_denies_acl(base: Base) -> None:
    await base.redis.execute_command(
        "ACL SETUSER", "managed", "on", ">pw", "+@all", "-@dangerous", "~*", "&*"
    )
    assert base.settings.redis_url is not None
    url = logged_in(base.settings.redis_url.get_secret_value(), "managed", "pw")
    (found,) = await doctor.users(base.settings.model_copy(update={"redis_url": SecretStr(url)}))
    assert "CHIMERA_REDIS_USERS=single" in found.fix
    await base.redis.execute_command("ACL DELUSER", "managed")
