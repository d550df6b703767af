"""`chimera spoke`: one tenant's workers, kept on a Ray cluster of that tenant's own."""

from __future__ import annotations


def spoke() -> None:
    """Keep one tenant's workers on the Ray cluster of this machine, until SIGTERM; in the foreground.

    It runs beside the head of a tenant's own cluster. The environment says all: CHIMERA_SPOKE_TENANT whose
    workers they are, CHIMERA_REDIS_URL_FILE where the URL is that `chimera tenant login NAME` has printed;
    RAY_ADDRESS, RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH are Ray's own. It says what it does as JSON lines. Told
    to end, it drains its workers within CHIMERA_SPOKE_GRACE_S.

    \b
    Example:
      chimera spoke
    """
    import os

    from chimera import settings

    # Ray reads it when it is imported: else it writes a trace at SIGTERM, as if that were a crash.
    os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")
    from chimera.serving import spoke as process

    process.run(settings.load())
