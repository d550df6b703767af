"""A review shows all that was asked and made, whatever it is made of, and who answered."""

from __future__ import annotations

from typing import Any

import pytest

from chimera.core.action import HttpAction
from chimera.core.verdict import Decision, Opinion, Verdict
from chimera.dashboard.payload import SHOWN_CHARS
from chimera.dashboard.review import ReviewPanel, payload_of, review_panel
from chimera.errors import Conflict, NotFound
from chimera.runtime.base import Base, TenantStores
from chimera.store.tasks import HandedIn
from tests.store import drive

UNSURE = Verdict(
    decision=Decision.ESCALATE,
    confidence=0.8,
    feedback="is it <b>true</b>?",
    judge="j1",
    topics=("health",),
    opinions=(Opinion(policy="rules", confidence=0.8, feedback="hm", details={"n": 1}),),
    at_ms=1_000,
)


async def waits(base: Base, tenant: str, value: Any = "in", result: Any = "out", **more: Any) -> TenantStores:
    """A task that waits for a human."""
    stores = await drive.begin(base, tenant, drive.spec(inputs=[value]))
    (one,) = await drive.claim(stores)
    assert await drive.hand_in(stores, one, result, **more) is None
    (held,) = await drive.review(stores)
    assert await drive.judge(stores, held, UNSURE) is None
    return stores


async def answer(stores: TenantStores, decision: Decision, by: str, comment: str = "") -> None:
    verdict = Verdict(
        decision=decision, confidence=1, feedback=comment, judge=f"human:{by}", at_ms=1_764_374_400_000
    )
    await stores.reviews.answer("m1.0", by, verdict=verdict, by=by, max_stale=5)


async def test_it_shows_input_result_verdicts_and_what_an_approval_sets_off(base: Base, tenant: str) -> None:
    hook = HttpAction(url="http://receiver.test/hook", headers={"x-a": "1"}, body={"n": [1]})
    await waits(base, tenant, {"text": "<b>"}, "made\nof lines", actions=[hook])
    panel = await review_panel(base, tenant, "m1.0")
    assert (panel.status, panel.waits, panel.agent, panel.goal) == ("ESCALATED", True, "echo", "try")
    assert panel.input is not None
    assert panel.input.text == '{\n  "text": "<b>"\n}'
    assert panel.result is not None
    assert (panel.result.kind, panel.result.text) == ("text", "made\nof lines")
    (verdict,) = panel.verdicts
    assert (verdict.feedback, verdict.topics, verdict.human) == ("is it <b>true</b>?", ("health",), False)
    assert verdict.opinions[0].details is not None
    (action,) = panel.actions
    assert action.words == "POST http://receiver.test/hook"
    assert action.body is not None
    assert action.body.text == '{\n  "n": [\n    1\n  ]\n}'
    assert panel.decided is None
    assert ReviewPanel.model_validate_json(panel.model_dump_json()) == panel


async def test_what_a_reduce_took_in_is_shown_with_it(base: Base, tenant: str) -> None:
    spec = drive.spec(inputs=["a"], plan={"strategy": "map_reduce", "reduce": {"agent": "sum"}})
    stores = await drive.begin(base, tenant, spec)
    await drive.finish(stores, 1, result={"part": 1})
    (one,) = await drive.claim(stores)
    assert await drive.hand_in(stores, one, "whole") is None
    (held,) = await drive.review(stores)
    await drive.judge(stores, held, UNSURE)
    panel = await review_panel(base, tenant, one.task_id)
    assert (panel.agent, panel.input) == ("sum", None)
    assert [(row.task_id, row.result.text) for row in panel.inputs] == [("m1.0", '{\n  "part": 1\n}')]


@pytest.mark.parametrize(
    ("decision", "status"), [(Decision.ACCEPT, "ACCEPTED"), (Decision.REJECT, "READY")], ids=str
)
async def test_who_comes_second_is_told_who_answered_and_how(
    base: Base, tenant: str, decision: Decision, status: str
) -> None:
    stores = await waits(base, tenant)
    await answer(stores, decision, "key:first", "seen")
    said = "approved" if decision is Decision.ACCEPT else "rejected"
    with pytest.raises(Conflict, match=rf"it is {status}; key:first {said} it at 00:00:00 UTC"):
        await answer(stores, Decision.ACCEPT, "key:second")
    panel = await review_panel(base, tenant, "m1.0")
    assert (panel.waits, panel.status) == (False, status)
    assert panel.decided is not None
    assert (panel.decided.by, panel.decided.decision, panel.decided.comment) == (
        "key:first",
        decision,
        "seen",
    )


async def test_a_task_that_a_judge_accepted_was_answered_by_nobody(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"]))
    await drive.finish(stores, 1)
    assert (await review_panel(base, tenant, "m1.0")).decided is None
    with pytest.raises(Conflict, match=r"it is ACCEPTED$"):
        await answer(stores, Decision.ACCEPT, "key:late")


async def test_another_tenants_task_is_not_found(base: Base, tenant: str) -> None:
    await waits(base, tenant)
    for where, which in (
        (f"{tenant}-b", "m1.0"),
        (tenant, "m1.7"),
        (tenant, "nothing"),
        (tenant, "m1.0\x00"),
    ):
        with pytest.raises(NotFound):
            await review_panel(base, where, which)


HOSTILE: dict[str, Any] = {
    "markup": "</pre><script>alert(1)</script>{{ 7*7 }}",
    "huge": "x" * 1_048_576,
    "nul": "a\x00b\u202ec",
    "keys": {"<script>": ["\u0000"], "__proto__": None},
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_payloads_are_shown_as_what_they_are(base: Base, tenant: str, value: Any) -> None:
    await waits(base, tenant, value, value)
    panel = await review_panel(base, tenant, "m1.0")
    assert panel.result is not None
    assert panel.input == panel.result
    assert len(panel.result.text) <= SHOWN_CHARS
    assert not set(panel.result.text) & set("\x00\u202e")
    assert await payload_of(base, tenant, "m1.0", "result") == value


@pytest.mark.parametrize("text", ['"\\ud800"', "[" * 100_000 + "]" * 100_000], ids=["half", "bottomless"])
async def test_what_a_worker_hands_in_past_its_checks_does_not_break_the_page(
    base: Base, tenant: str, text: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"]))
    (one,) = await drive.claim(stores)
    assert await stores.tasks.submit("w1", [HandedIn(one.task_id, one.token, 1, text)], max_stale=5) == [None]
    (held,) = await drive.review(stores)
    assert await drive.judge(stores, held, UNSURE) is None
    panel = await review_panel(base, tenant, "m1.0")
    assert (panel.status, panel.waits) == ("ESCALATED", True)
    panel.model_dump_json()
    if text.startswith("["):
        assert "nested too deeply" in panel.damaged
    else:
        assert panel.result is not None
        assert panel.result.text == "⟦U+D800⟧"
    await answer(stores, Decision.REJECT, "key:me", "no")
    assert (await stores.tasks.status("m1.0")) == "READY"
