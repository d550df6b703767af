"""Pictures: every node reached by keyboard, nothing said by colour alone, nothing of a stranger as markup."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest
from hypothesis import given, strategies

from chimera.core.task import TaskStatus
from chimera.dashboard.drawing.density import areas, busy
from chimera.dashboard.drawing.graph import CARD, CELL, GROUP, Node, draw, lay_out
from chimera.dashboard.drawing.lanes import Stay, axis, lane
from chimera.dashboard.drawing.marks import UNPLANNED, WORDS, mark, picture
from chimera.dashboard.words import length

HOSTILE = '"><script>alert(1)</script><a href="javascript:alert(2)">& \u202e'


def parsed(markup: str) -> ET.Element:
    return ET.fromstring(markup)


def chain(count: int, width: int = 1) -> list[Node]:
    return [
        Node(
            f"n{at}",
            "ready",
            f"task n{at}: ready",
            f"/t/{at}",
            at // width,
            "READY",
            needs=[at - width] if at >= width else [],
        )
        for at in range(count)
    ]


def test_every_status_has_a_mark_of_its_own_shape_and_a_word() -> None:
    assert set(WORDS) == {*TaskStatus, UNPLANNED}
    shapes = {parsed(mark(status)).get("d") for status in WORDS}
    assert len(shapes) == len(WORDS) == len(set(WORDS.values()))
    assert parsed(picture("READY")).get("aria-hidden") == "true"


@pytest.mark.parametrize("count", [1, 5, 41, 200])
def test_each_node_of_a_graph_is_a_link_that_says_what_it_is(count: int) -> None:
    graph = parsed(draw(chain(count, width=7), label="tasks"))
    links = graph.findall("a")
    assert [link.get("href") for link in links] == [f"/t/{at}" for at in range(count)]
    assert {link.get("aria-label") for link in links} == {f"task n{at}: ready" for at in range(count)}
    assert len(graph.findall(".//g[@class='edges']/path")) == max(0, count - 7)


@given(
    needs=strategies.lists(strategies.integers(0, 3), min_size=1, max_size=60),
    size=strategies.sampled_from([CARD, CELL, GROUP]),
)
def test_no_two_nodes_of_a_graph_overlap_and_all_lie_within_it(needs: Sequence[int], size: object) -> None:
    nodes = [Node(str(at), "", "", "", depth, "READY") for at, depth in enumerate(needs)]
    places, width, height = lay_out(nodes, size)  # type: ignore[arg-type]  # (one of the three)
    boxes = {(round(place.x, 3), round(place.y, 3)) for place in places}
    assert len(boxes) == len(nodes)
    for at, one in enumerate(places):
        assert 0 <= one.x <= width - size.width  # type: ignore[attr-defined]  # (one of the three)
        assert -0.001 <= one.y <= height - size.height + 0.001  # type: ignore[attr-defined]  # (one of the three)
        for other in places[:at]:
            apart_x = abs(one.x - other.x) >= size.width  # type: ignore[attr-defined]  # (one of the three)
            apart_y = abs(one.y - other.y) >= size.height  # type: ignore[attr-defined]  # (one of the three)
            assert apart_x or apart_y
    for node, place in zip(nodes, places, strict=True):
        deeper = [there for there, one in zip(places, nodes, strict=True) if one.depth > node.depth]
        assert all(there.x > place.x for there in deeper)


def test_a_layer_of_ten_thousand_tasks_is_one_node_that_says_how_many_stand_where() -> None:
    counts = {"ACCEPTED": 9_000, "PENDING": 16, "READY": 983, "FAILED": 1}
    node = Node("map", "10,000 tasks · llm", "map: 9,000 accepted", "/m", 0, counts=counts)
    graph = parsed(draw([node], label="stages"))
    assert len(graph.findall("a")) == 1
    texts = [one.text for one in graph.iter("text")]
    assert {"map", "10,000 tasks · llm", "9,000", "983", "16"} <= set(texts)
    widths = [float(one.get("width") or 0) for one in graph.iter("rect") if "bar" in (one.get("class") or "")]
    assert len(widths) == 4
    assert min(widths) >= 1.5, "one of ten thousand is still seen"


def test_what_a_stranger_wrote_is_text_in_a_picture() -> None:
    drawn = draw([Node(HOSTILE, HOSTILE, HOSTILE, "/x?a=1&b=2", 0, "FAILED")], label=HOSTILE)
    drawn += lane([Stay("FAILED", 0, 1, 3, HOSTILE)], playhead=0.5, label=HOSTILE)
    assert "<script" not in drawn
    assert 'href="javascript' not in drawn
    graph = parsed(f"<all>{drawn}</all>")
    assert {one.tag for one in graph.iter()} <= {
        "all",
        "svg",
        "g",
        "a",
        "title",
        "rect",
        "path",
        "text",
        "line",
    }


def test_no_picture_bears_a_style_a_script_or_a_handler() -> None:
    drawn = [
        draw(chain(8), label="l"),
        lane([Stay("PENDING", 0, 0.5, 2), Stay("ACCEPTED", 0.5, 1, 0)], playhead=0.2, label="l"),
        areas([{"READY": 2}, {"ACCEPTED": 2}], 2, playhead=None, label="l"),
        busy([0, 1], playhead=1.0, label="l"),
        axis(90),
    ]
    for one in drawn:
        for element in parsed(one).iter():
            assert element.tag not in {"style", "script"}
            assert not [name for name in element.attrib if name == "style" or name.startswith("on")]


def test_a_lane_marks_what_is_final_and_says_how_long_each_stay_was() -> None:
    drawn = parsed(
        lane(
            [
                Stay("READY", 0, 0.25, 5),
                Stay("PENDING", 0.25, 0.5, 5, ", attempt 2"),
                Stay("FAILED", 0.5, 1, 10),
            ],
            playhead=0.5,
            label="task 7",
        )
    )
    assert [one.text for one in drawn.iter("title")] == [
        "ready, 5.0 s",
        "at work, attempt 2, 5.0 s",
        "failed, 10.0 s",
    ]
    assert [one.get("class") for one in drawn.iter("path")] == ["mark s-FAILED"]
    assert [one.get("x1") for one in drawn.iter("line")] == ["50%"]


def test_areas_stand_on_each_other_up_to_the_whole_layer() -> None:
    drawn = parsed(
        areas([{"READY": 4}, {"READY": 1, "ACCEPTED": 3}], 4, playhead=None, label="map over time")
    )
    by_class = {one.get("class"): one.get("points") for one in drawn.iter("polygon")}
    assert set(by_class) == {"area s-ACCEPTED", "area s-READY"}
    assert by_class["area s-READY"] == "0,0 1000,0 1000,14 0,56"
    assert drawn.get("aria-label") == "map over time"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.42, "0.42 s"),
        (12.34, "12.3 s"),
        (245, "4 min 5 s"),
        (60, "1 min"),
        (7_380, "2 h 3 min"),
        (360_000, "4 d 4 h"),
    ],
)
def test_lengths_of_time_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert length(seconds) == said
