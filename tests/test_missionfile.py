"""Mission files: every problem at once, each with its line and field; inputs read from files."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from chimera.core.mission import MissionSpec
from chimera.errors import InvalidRequest
from chimera.missionfile import open_mission, read_mission, schema_text

ROOT = Path(__file__).parents[1]
HEAD = "goal: Count\nbudget_usd: 0.10\n"


def read(folder: Path, text: str, name: str = "m.yaml", **limits: int) -> MissionSpec:
    (folder / name).write_text(text, encoding="utf-8")
    return read_mission(folder / name, **limits)


def problems(folder: Path, text: str, name: str = "m.yaml", **limits: int) -> str:
    with pytest.raises(InvalidRequest) as refused:
        read(folder, text, name, **limits)
    return str(refused.value)


def test_a_small_mission_is_read(tmp_path: Path) -> None:
    spec = read(tmp_path, HEAD + "inputs: [one, {two: 2}]\n")
    assert spec.inputs == ("one", {"two": 2})
    assert spec.budget_microusd == 100_000


def test_json_is_read_with_tabs_and_escapes(tmp_path: Path) -> None:
    text = '{\n\t"goal": "\\ud83d\\ude00",\n\t"budget_usd": 1e-1,\n\t"inputs": ["a\\tb"]\n}'
    spec = read(tmp_path, text, "m.json")
    assert spec.goal == "😀"
    assert spec.inputs == ("a\tb",)


def test_dates_stay_text(tmp_path: Path) -> None:
    assert read(tmp_path, HEAD + "inputs: [2026-11-22]\n").inputs == ("2026-11-22",)


def test_all_problems_come_at_once_by_line_with_the_nearest_name(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        "goul: x\npriority: hgih\nbudget_usd: 0\ninputs: [a]\nplan: {strategy: mapp}\n"
        "judge:\n  - policy: rules\n    min_char: 3\n  - policy: shema\nagent: LLM\n",
    )
    lines = told.splitlines()[1:]
    assert [line.strip().partition(":")[0] for line in lines] == [
        "line 1, goal",
        "line 1, goul",
        "line 2, priority",
        "line 3, budget_usd",
        "line 5, plan",
        "line 8, judge[0].min_char",
        "line 9, judge[1]",
        "line 10, agent",
    ]
    assert "did you mean goal?" in told
    assert "did you mean high?" in told
    assert "one of: high, medium, low" in told
    assert "did you mean map?" in told
    assert "did you mean min_chars?" in told
    assert "did you mean schema?" in told


@pytest.mark.parametrize("budget", ["0", "-1", "abc", ".nan", ".inf", "2000000000"])
def test_a_budget_that_is_no_positive_amount_is_refused(tmp_path: Path, budget: str) -> None:
    assert "line 2, budget_usd" in problems(tmp_path, f"goal: x\nbudget_usd: {budget}\ninputs: [a]\n")


@pytest.mark.parametrize("inputs", ["", "inputs: []\n", "inputs:\n"])
def test_empty_inputs_are_refused(tmp_path: Path, inputs: str) -> None:
    assert "inputs: is empty" in problems(tmp_path, HEAD + inputs)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    told = problems(tmp_path, HEAD + "inputs: [a]\noptions: {a: 1, a: 2}\ngoal: again\n")
    assert "line 4, options.a: stands twice" in told
    assert "line 5, goal: stands twice, first on line 1" in told


def test_a_circle_of_dependencies_is_named(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        HEAD + "plan:\n  strategy: dag\n  nodes:\n    - {name: a, depends_on: [b]}\n"
        "    - {name: b, depends_on: [a]}\n",
    )
    assert "line 5, plan.nodes: depends_on goes in a circle: a → b → a" in told


def test_everything_wrong_with_a_dag_is_named_at_its_line(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        HEAD + "plan:\n  strategy: dag\n  nodes:\n    - {name: a, depends_on: [b, ghost]}\n"
        "    - {name: b, depends_on: [a, a]}\n    - {name: a}\n",
    )
    assert told.splitlines()[1:] == [
        "  line 5, plan.nodes: depends_on goes in a circle: a → b → a; remove one of these",
        "  line 6, plan.nodes[0].depends_on: node 'a' depends on 'ghost', which is no node of this plan",
        "  line 7, plan.nodes[1].depends_on: node 'b' names a dependency twice",
        "  line 8, plan.nodes[2].name: node names must differ; a stands more than once",
    ]


def test_a_budget_of_too_many_places_is_told_in_words(tmp_path: Path) -> None:
    told = problems(tmp_path, "goal: x\nbudget_usd: 0.0000001\ninputs: [a]\n")
    assert "budget_usd: must have no more than 6 decimal places" in told


def test_a_wrong_field_of_a_node_has_its_own_line(tmp_path: Path) -> None:
    told = problems(
        tmp_path, HEAD + "plan:\n  strategy: dag\n  nodes:\n    - name: a\n      dependson: [b]\n"
    )
    assert "line 7, plan.nodes[0].dependson: there is no such field (did you mean depends_on?)" in told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("goal: [a\nb: c", "line 2, column"),
        ("- a\n- b\n", "must be a mapping"),
        ("", "must be a mapping"),
        ("a: *nowhere\n", "line 1, column 4"),
        ("goal: !!python/object/apply:os.system ['true']\n", "line 1, column 7"),
        ("a: \x07\n", "is no YAML"),
        ("a: " + "[" * 3_000, "nested too deeply"),
    ],
)
def test_what_is_no_yaml_says_where(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in problems(tmp_path, text)


def test_what_is_no_json_says_where(tmp_path: Path) -> None:
    assert "line 2:" in problems(tmp_path, '{"goal": "x",\n nope}', "m.json")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_mission(tmp_path / "missing.yaml")
    (tmp_path / "m.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match="no text in UTF-8"):
        read_mission(tmp_path / "m.yaml")


def inputs(**fields: Any) -> str:
    return HEAD + f"inputs: {json.dumps(fields)}\n"


def test_text_files_are_sorted_read_once_and_cut_at_a_lines_end(tmp_path: Path) -> None:
    (tmp_path / "docs/deep").mkdir(parents=True)
    (tmp_path / "docs/b.md").write_text("first line\nsecond line\n")
    (tmp_path / "docs/deep/a.md").write_text("oneverylonglinewithoutanend")
    spec = read(tmp_path, inputs(files=["docs/**/*.md", "docs/b.md"], head_chars=15))
    assert spec.inputs == (
        {"path": "docs/b.md", "text": "first line\n"},
        {"path": "docs/deep/a.md", "text": "oneverylongline"},
    )


def test_json_lines_and_csv_give_an_item_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n[2]\n')
    (tmp_path / "a.csv").write_text('name,age\n"Ada, L.",36\nAlan,41\n')
    assert read(tmp_path, inputs(files=["a.jsonl"], format="jsonl")).inputs == ({"a": 1}, [2])
    assert read(tmp_path, inputs(files=["a.csv"], format="csv")).inputs == (
        {"name": "Ada, L.", "age": "36"},
        {"name": "Alan", "age": "41"},
    )


@pytest.mark.parametrize(
    ("name", "content", "form", "expected"),
    [
        ("a.bin", b"\x00\x01", "text", "is a binary file"),
        ("a.txt", b"ok\n\xff", "text", "is no text in UTF-8 (line 2)"),
        ("a.jsonl", b'{"a": 1}\n{nope\n', "jsonl", "line 2 is no JSON"),
        ("a.jsonl", b"\n", "jsonl", "hold no item"),
        ("a.csv", b"a,b\n1\n", "csv", "line 2 has 1 columns, the header 2"),
        ("a.csv", b"a,a\n1,2\n", "csv", "repeated column name"),
        ("a.csv", b"a,b\n", "csv", "hold no item"),
    ],
)
def test_a_file_that_gives_no_items_says_why(
    tmp_path: Path, name: str, content: bytes, form: str, expected: str
) -> None:
    (tmp_path / name).write_bytes(content)
    told = problems(tmp_path, inputs(files=[name], format=form))
    assert expected in told
    assert "line 3, inputs" in told


def test_a_pattern_without_files_and_a_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    told = problems(tmp_path, inputs(files=["nothing/*.md", "docs"]))
    assert "inputs.files[0]: 'nothing/*.md' matches no file in" in told
    assert "inputs.files[1]: 'docs' is a directory: name its files, as in docs/*" in told


def test_an_item_over_the_limit_is_named_with_the_setting(tmp_path: Path) -> None:
    told = problems(tmp_path, HEAD + f"inputs: [small, {'x' * 100}]\n", max_input_bytes=64)
    assert "inputs[1] has 102 bytes, over the limit of 64" in told
    assert "CHIMERA_MAX_INPUT_BYTES" in told


def test_too_many_items_are_refused(tmp_path: Path) -> None:
    assert "CHIMERA_MAX_INPUTS" in problems(tmp_path, HEAD + "inputs: [a, b, c]\n", max_inputs=2)


def test_an_item_that_is_no_json_is_refused(tmp_path: Path) -> None:
    assert "inputs[0] is no JSON value" in problems(tmp_path, HEAD + "inputs: [.nan]\n")


def test_a_wrong_field_of_the_inputs_is_told_with_the_rest(tmp_path: Path) -> None:
    told = problems(tmp_path, "budget_usd: 1\ninputs: {files: [a], formt: text}\n")
    assert "inputs.formt: there is no such field (did you mean format?)" in told
    assert "goal: is missing" in told


def test_the_published_schema_is_the_mission_file() -> None:
    published = (ROOT / "docs/mission.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(), "run: chimera mission schema > docs/mission.schema.json"


@pytest.mark.parametrize(
    "file", sorted((ROOT / "examples/missions").glob("*.yaml")), ids=lambda file: file.stem
)
def test_every_example_is_a_mission(file: Path) -> None:
    assert read_mission(file).inputs


def test_many_lines_are_gone_through_one_at_a_time(tmp_path: Path) -> None:
    """Twice: once to check them, once to send them; 3 MB of lines, and not a tenth of it in memory."""
    with (tmp_path / "many.jsonl").open("w") as file:
        for number in range(40_000):
            file.write(json.dumps({"n": number, "text": "x" * 60}) + "\n")
    (tmp_path / "m.yaml").write_text(inputs(files=["many.jsonl"], format="jsonl"))
    tracemalloc.start()
    try:
        mission = open_mission(tmp_path / "m.yaml")
        assert mission.count == 40_000
        for _ in range(2):
            assert sum(item["n"] for item in mission.inputs) == 40_000 * 39_999 // 2
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300_000
    assert (mission.spec.goal, mission.spec.budget_microusd) == ("Count", 100_000)


def test_each_wrong_line_of_many_is_counted_and_the_first_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(f'"{"x" * (90 if n % 2 else 9)}"\n' for n in range(200)))
    told = problems(tmp_path, inputs(files=["a.jsonl"], format="jsonl"), max_input_bytes=64)
    assert "a.jsonl:2 has 92 bytes, over the limit of 64" in told
    assert "and 50 more items like these" in told
    assert len(told.splitlines()) == 1 + 51


def test_a_line_without_an_end_is_not_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('1\n"' + "x" * 100_000 + '"\n')
    told = problems(tmp_path, inputs(files=["a.jsonl"], format="jsonl"), max_input_bytes=1_000)
    assert "line 2 has more than 6,000 characters" in told


def test_a_file_that_changes_before_it_is_sent_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("1\n" * 2_000)
    (tmp_path / "m.yaml").write_text(inputs(files=["a.jsonl"], format="jsonl"))
    mission = open_mission(tmp_path / "m.yaml")
    (tmp_path / "a.jsonl").write_text("1\n" * 1_999 + "{\n")
    with pytest.raises(InvalidRequest, match=r"a.jsonl changed while it was read: it line 2000 is no JSON"):
        list(mission.inputs)
