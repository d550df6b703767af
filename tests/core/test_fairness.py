"""Shared places: nobody takes all of them, and nobody waits behind one who has many."""

from __future__ import annotations

from hypothesis import given, strategies

from chimera.core.fairness import room


def test_one_alone_has_most_of_the_places_and_the_next_begins_at_once() -> None:
    assert room(256, 0, 0) == 192
    assert room(256, 192, 192) == 0
    assert room(256, 192, 0) == 48
    assert room(6, 0, 0, ahead=1) == 3


def test_who_has_none_gets_the_last_place() -> None:
    assert room(256, 255, 0) == 1
    assert room(256, 255, 1) == 0
    assert room(256, 256, 0) == 0


@given(
    places=strategies.integers(1, 300),
    tenants=strategies.integers(1, 40),
    ahead=strategies.integers(1, 5),
    asks=strategies.lists(strategies.integers(0, 39), max_size=200),
)
def test_whoever_asks_in_whatever_order_holds_no_more_than_ahead_times_what_was_free(
    places: int, tenants: int, ahead: int, asks: list[int]
) -> None:
    held = [0] * tenants
    for one in asks:
        who = one % tenants
        more = room(places, sum(held), held[who], ahead=ahead)
        held[who] += more
        free = places - sum(held)
        assert free >= 0
        assert more == 0 or held[who] <= max(1, ahead * free + ahead)


@given(places=strategies.integers(8, 300), tenants=strategies.integers(2, 8))
def test_the_same_demand_ends_in_the_same_shares(places: int, tenants: int) -> None:
    """One came first and took all it may; as its places come free, all end up with about as many."""
    held = [room(places, 0, 0), *[0] * (tenants - 1)]
    for _ in range(40 * places):
        busiest = max(range(tenants), key=lambda one: held[one])
        held[busiest] -= 1
        for one in range(tenants):
            held[one] += room(places, sum(held), held[one])
    assert max(held) - min(held) <= 3 + places // 8
