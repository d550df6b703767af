"""`chimera dashboard` says where to look and which key opens it, and never the key."""

from __future__ import annotations

from chimera.serving.local.state import Fleet, StateDir
from tests.cli.conftest import Shell
from tests.cli.test_fleet import recorded


async def test_it_says_where_the_dashboard_of_a_hub_is(hub: Shell) -> None:
    done = await hub("dashboard")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == f"{hub.environment['CHIMERA_URL']}/dashboard"
    assert "log in with a key of yours" in done.out
    assert hub.environment["CHIMERA_API_KEY"] not in done.out + done.err


async def test_of_the_local_fleet_it_names_the_files_with_the_keys(hub: Shell, shell: Shell) -> None:
    url = hub.environment["CHIMERA_URL"]
    local = Shell(shell.directory, {k: v for k, v in hub.environment.items() if k != "CHIMERA_URL"})
    with recorded(local, url=url) as state:
        done = await local("dashboard", "-o", "json")
        assert done.code == 0, done.err
        files = {"tenant": str(state.api_key), "fleet": str(state.admin_key)}
        assert done.document == {"url": f"{url}/dashboard", "key_files": files}
        text = (await local("dashboard")).out
        assert f"log in with the fleet's key, in {state.admin_key}" in text


async def test_where_no_hub_answers_it_says_so(shell: Shell) -> None:
    done = await shell("dashboard", "--url", "http://127.0.0.1:9")
    assert done.code == 4
    assert done.out == ""


async def test_up_and_status_name_the_dashboard(shell: Shell) -> None:
    with recorded(shell) as state:
        done = await shell("up")
        fleet = StateDir.read(state)
        assert isinstance(fleet, Fleet)
        assert f"dashboard   {fleet.url}/dashboard" in done.out
