"""Checks side effects against their witness: what the webhook's receiver wrote down."""

from __future__ import annotations

from collections import defaultdict

from chimera.chaos.history import CLOCKS_S, History


def effects_follow_verdicts(history: History) -> tuple[int, list[str]]:
    """Nothing was sent before its verdict, all of it under one key, and all that was done was received."""
    wrong: list[str] = []
    accepted = {
        event.task_id: event.at.timestamp()
        for tenant in history.tenants.values()
        for event in tenant.events
        if event.kind in {"task.accepted", "task.approved"}
    }
    asked = {action.partition("/")[0] for tenant in history.tenants.values() for action in tenant.actions}
    keys: dict[str, set[str]] = defaultdict(set)
    for hook in history.hooks:
        task = hook["task"]
        keys[task].add(hook["key"])
        if task not in accepted:
            wrong.append(f"{task}: its webhook was sent, and its result was never accepted")
        elif hook["at"] < accepted[task] - CLOCKS_S:
            early_s = accepted[task] - hook["at"]
            wrong.append(f"{task}: its webhook was sent {early_s:.2f} s before the verdict")
        if task in accepted and task not in asked:
            wrong.append(f"{task}: its webhook was sent, and it had asked for none")
    wrong += [f"{task}: sent under {len(seen)} keys" for task, seen in keys.items() if len(seen) > 1]
    checked = 0
    for tenant in history.tenants.values():
        for action, status in tenant.actions.items():
            checked += 1
            if status == "DONE" and action.partition("/")[0] not in keys:
                wrong.append(f"{action} is DONE, and its receiver has not seen it")
            elif status != "DONE":
                wrong.append(f"{action} is {status} at the end")
    return checked, wrong


def sent_again(history: History) -> int:
    """Webhooks received more than once: by a crash between send and report, under the same key."""
    return len(history.hooks) - len({(hook["task"], hook["key"]) for hook in history.hooks})
