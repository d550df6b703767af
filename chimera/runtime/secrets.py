"""Where tenants' secrets come from: files that the operator mounts, one for each secret.

    <CHIMERA_TENANT_SECRETS_DIR>/<tenant>/<NAME>

Only the hub reads them. A tenant's workers are handed theirs and nobody else's; a changed file is found
within `FRESH_S`, and handed to workers that run, too.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from chimera.agents.secrets import Secrets
from chimera.core.mission import TENANT_PATTERN
from chimera.errors import ConfigurationError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
MODEL_KEY = "MODEL_API_KEY"
"""The tenant's own key for the model endpoint: it wins over CHIMERA_MODEL_API_KEY."""
MOST_BYTES = 48 * 1024
"""Of all secrets of one tenant. What is larger Ray would put into its object store, open to all."""
FRESH_S = 5.0
"""What was read is taken as it is for so long."""


class TenantSecrets:
    """Reads a directory of secrets.

    Args:
        directory: None: no tenant has any.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._read: dict[str, tuple[float, Secrets]] = {}

    def of(self, tenant: str) -> Secrets:
        """A tenant's; none when it has no directory of its own. It reads files: call it in a thread.

        Raises:
            ConfigurationError: one cannot be used; it names the file, and says nothing of its content.
        """
        if self._directory is None or not re.fullmatch(TENANT_PATTERN, tenant):
            return Secrets()
        at, known = self._read.get(tenant, (0.0, Secrets()))
        now = time.monotonic()
        if tenant not in self._read or now - at > FRESH_S:
            known = Secrets(_values(self._directory / tenant))
            self._read[tenant] = now, known
        return known


def _values(directory: Path) -> dict[str, str]:
    """Kubernetes keeps a volume's content in directories whose names begin with dots: not ours."""
    found, size = dict[str, str](), 0
    try:
        paths = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as exc:
        raise ConfigurationError(f"the secrets in {directory} cannot be read ({exc.strerror})") from exc
    for path in paths:
        if not NAME.fullmatch(path.name):
            raise ConfigurationError(
                f"{path} cannot be a secret's name: use letters, digits and _, at most 64 characters"
            )
        try:
            raw = path.read_bytes()
            value = raw.decode("utf-8").rstrip("\r\n")
        except OSError as exc:
            raise ConfigurationError(f"the secret {path} cannot be read ({exc.strerror})") from exc
        except UnicodeDecodeError:  # which holds all of it
            raise ConfigurationError(f"the secret {path} cannot be read: it must be UTF-8 text") from None
        size += len(path.name) + len(raw)
        if size > MOST_BYTES:
            raise ConfigurationError(
                f"the secrets in {directory} are over {MOST_BYTES:,} bytes: keep large ones elsewhere"
            )
        found[path.name] = value
    return found
