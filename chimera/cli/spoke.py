"""`chimera spoke`: one tenant's workers, kept on a Ray cluster of that tenant's own."""

from __future__ import annotations


def spoke() -> None:
    """Keep one tenant's workers on the Ray cluster of this machine, until SIGTERM; in the foreground.

    It runs beside the head of a tenant's own cluster and needs of the hub its Redis alone, with the login
    that `chimera tenant login NAME` prints, in CHIMERA_REDIS_URL_FILE (or CHIMERA_REDIS_URL). It says
    everything as JSON lines. Told to end, it drains its workers within CHIMERA_SPOKE_GRACE_S.

    \b
    Examples:
      CHIMERA_SPOKE_TENANT=acme CHIMERA_REDIS_URL_FILE=/run/secrets/redis-url chimera spoke
    """
    from chimera import settings
    from chimera.serving import spoke as process

    process.run(settings.load())
