"""When a failed model call is tried again: a pure decision."""

from __future__ import annotations

BASE_S = 0.5
CAP_S = 20.0
LONGEST_RETRY_AFTER_S = 60.0


def pause_s(tries: int, retry_after_s: float | None, jitter: float) -> float | None:
    """How long to wait before the next try, in seconds; None when waiting is pointless.

    Args:
        tries: how many have failed, from 1.
        retry_after_s: what the endpoint asked for. It is honoured, with up to a quarter more so that
            callers do not return in step; above a minute the task had better come back later.
        jitter: a draw from [0, 1).
    """
    if retry_after_s is not None:
        return None if retry_after_s > LONGEST_RETRY_AFTER_S else retry_after_s * (1 + jitter / 4)
    ceiling = min(CAP_S, BASE_S * 2.0 ** (tries - 1))
    return ceiling * (0.5 + jitter / 2)
