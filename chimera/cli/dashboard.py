"""`chimera dashboard`: where it is, and how to log in."""

from __future__ import annotations

from chimera.cli import output
from chimera.cli.exits import Exit
from chimera.cli.hub import ask, local_fleet, locate
from chimera.cli.output import Format, Key, Output, Url


def dashboard(output_format: Output = Format.TEXT, url: Url = "", api_key_file: Key = "") -> None:
    """Where the dashboard is, and which keys open it. Exit 4 when no hub answers there.

    It is for a browser: paste a key, and a session of its own is opened. The key itself is not printed.

    \b
    Examples:
      chimera dashboard
      chimera dashboard -o json
      chimera dashboard --url https://chimera.example.org
    """
    from chimera import settings

    fleet = local_fleet(settings.load())
    hub = locate(url, api_key_file)
    ask(url, api_key_file, lambda client: client.version())
    keys = {}
    if fleet and fleet.url == hub.url:
        keys = {"tenant": str(fleet.api_key_file), "fleet": str(fleet.admin_key_file)}
    address = f"{hub.url}/dashboard"
    if output_format is Format.JSON:
        output.document({"url": address, "key_files": keys})
        output.leave(Exit.COMPLETED)
    output.say(address)
    if keys:
        output.say(f"  all tenants  log in with the fleet's key, in {keys['fleet']}")
        output.say(f"  one tenant   log in with its own key, in {keys['tenant']}")
    else:
        output.say("  log in with a key of yours; the operator makes one:")
        output.say("  `chimera key create --tenant NAME --scopes read`, or with `--fleet` for all tenants")
