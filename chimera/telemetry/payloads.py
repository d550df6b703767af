"""What the flight recorder has of a payload: how long it is and its hash; its text where that is opted in.

Payloads are what tenants' work is made of: results, prompts, replies, arguments of tools, proposed actions.
The hash shows that a text somebody has is the one that passed here.
"""

from __future__ import annotations

import hashlib
from typing import Any

from chimera.telemetry.redaction import redact

MOST_TEXT = 262_144
"""Characters that one `Payloads` keeps of all payloads together: of one attempt, or of one call."""


class Payloads:
    """Tells of payloads.

    Args:
        keep: characters of each whose text is kept, redacted (CHIMERA_RECORDER_PAYLOADS); 0 keeps none.
    """

    def __init__(self, keep: int = 0) -> None:
        self._keep, self._room = keep, MOST_TEXT

    def of(self, payload: str | bytes) -> dict[str, Any]:
        """``{"bytes": …, "sha256": …}``; with ``text``, and ``cut`` where that is not all of it."""
        data = payload if isinstance(payload, bytes) else payload.encode("utf-8", "surrogatepass")
        told: dict[str, Any] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if most := min(self._keep, self._room):
            text = data.decode("utf-8", "replace")
            # Redacted before it is cut: half of a secret would not be known as one.
            kept = redact(text[: most + SECRETS])[:most]
            self._room -= len(kept)
            told["text"] = kept
            if len(text) > most:
                told["cut"] = True
        return told


SECRETS = 4_096
"""Characters behind the cut that are looked at too: a secret that the cut would part is found whole."""
