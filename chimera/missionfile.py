"""Mission files: YAML or JSON → a mission with its inputs, or every problem at once.

Each problem names its line and field, lists what is allowed and suggests the nearest. Nothing is
submitted from a file that has one.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from chimera import missioninputs
from chimera.core.mission import InputFiles, InputItems, MissionBase, MissionFile, MissionSpec
from chimera.errors import InvalidRequest
from chimera.missioninputs import FileItems

MAX_FILE_BYTES = 268_435_456
DEFAULT_MAX_INPUT_BYTES = 262_144
DEFAULT_MAX_INPUTS = 1_000_000
AT_HAND = 1_000
"""So many inputs from files are kept in memory; more are read again when they are sent."""
LINE_SHARE = 6
"""A line of JSON may have so many times the characters that its value has bytes: one may stand as six."""
MAX_WRONG = 50
"""Items that are named, of those that cannot be sent."""

Place = tuple[str | int, ...]
"""Where in the document: keys and list positions."""


class Loader(yaml.SafeLoader):
    """YAML as JSON has it: dates stay text."""


Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass
class Document:
    """A parsed file: its value, and its nodes, which know their lines."""

    value: dict[str, Any]
    root: yaml.Node
    found: list[tuple[int, str]] = field(default_factory=list)

    @property
    def problems(self) -> tuple[str, ...]:
        """All problems, by line."""
        return tuple(f"line {line}{text}" for line, text in sorted(self.found))

    def line(self, place: Place) -> int:
        """The line of a place, or of the nearest thing around it that is written down."""
        line = self.root.start_mark.line
        for step in self._steps(place):
            line = step.start_mark.line
        return line + 1

    def written(self, place: Place) -> Place:
        """The place without the parts that stand for no key of the file (names of a union's members)."""
        parts: list[str | int] = []
        node: yaml.Node | None = self.root
        for index, part in enumerate(place):
            found = child(node, part)
            if found is None and index < len(place) - 1:
                continue
            parts.append(part)
            node = found[1] if found else None
        return tuple(parts)

    def add(self, place: Place, message: str) -> None:
        """Note a problem with its line and field."""
        place = self.written(place)
        name = shown(place)
        self.found.append((self.line(place), f"{f', {name}' if name else ''}: {message}"))

    def _steps(self, place: Place) -> Iterator[yaml.Node]:
        node: yaml.Node = self.root
        for part in place:
            found = child(node, part)
            if found is None:
                return
            yield found[0]
            node = found[1]


def child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """The key's node and the value's node of one step down, or None."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == str(part):
                return key, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def shown(place: Place) -> str:
    """``("judge", 0, "policy")`` → ``judge[0].policy``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass(frozen=True)
class OpenMission:
    """A mission file that was read and found good, with its inputs.

    Attributes:
        spec: the mission but for its inputs.
        inputs: can be gone through more than once; few are at hand, many are read from their files each time.
        count: how many they are.
    """

    spec: MissionBase
    inputs: tuple[Any, ...] | FileItems
    count: int


def open_mission(
    path: Path,
    *,
    max_input_bytes: int = DEFAULT_MAX_INPUT_BYTES,
    max_inputs: int = DEFAULT_MAX_INPUTS,
) -> OpenMission:
    """Read a mission file, and go through the inputs it names once: one item at a time is in memory.

    Args:
        path: YAML, or JSON where it ends in ``.json``.
        max_input_bytes: the most one input item may have, as JSON.
        max_inputs: the most items there may be.
    Raises:
        InvalidRequest: one line for each problem of the file, of its inputs, or of both.
    """
    document = parse(path)
    mission = validate(document)
    if mission is None:
        raise InvalidRequest(f"{path} is no mission; nothing was submitted:", document.problems)
    inputs, count = _checked(mission, document, path.parent, max_input_bytes, max_inputs)
    if document.problems:
        raise InvalidRequest(
            f"the inputs of {path} cannot be used; nothing was submitted:", document.problems
        )
    shared = {name: getattr(mission, name) for name in MissionBase.model_fields}
    few = inputs if isinstance(inputs, tuple) or count > AT_HAND else tuple(inputs)
    return OpenMission(MissionBase(**shared), few, count)


def read_mission(
    path: Path,
    *,
    max_input_bytes: int = DEFAULT_MAX_INPUT_BYTES,
    max_inputs: int = DEFAULT_MAX_INPUTS,
) -> MissionSpec:
    """The same with all inputs in memory. Raises as `open_mission` does."""
    opened = open_mission(path, max_input_bytes=max_input_bytes, max_inputs=max_inputs)
    shared = {name: getattr(opened.spec, name) for name in MissionBase.model_fields}
    return MissionSpec(**shared, inputs=tuple(opened.inputs))


def parse(path: Path) -> Document:
    """Read the file into a document.

    Raises:
        InvalidRequest: it cannot be read, is no YAML or JSON, or is no mapping.
    """
    text = _text(path)
    is_json = path.suffix.lower() == ".json"
    try:
        # A tab is white space in JSON and no such thing in YAML; inside JSON's strings there is none.
        loader = Loader(text.replace("\t", " ") if is_json else text)
        root = loader.get_single_node()
        value = json.loads(text) if is_json else loader.construct_document(root) if root else None
    except json.JSONDecodeError as exc:
        raise InvalidRequest(f"{path} is no JSON:", (f"line {exc.lineno}: {exc.msg}",)) from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        what = " ".join(filter(None, (exc.problem, exc.context)))
        raise InvalidRequest(f"{path} is no {'JSON' if is_json else 'YAML'}:", (where + what,)) from exc
    except yaml.YAMLError as exc:
        raise InvalidRequest(f"{path} is no YAML: {' '.join(str(exc).split())}") from exc
    except RecursionError as exc:
        raise InvalidRequest(f"{path} is nested too deeply: make it flatter") from exc
    if root is None or not isinstance(root, yaml.MappingNode) or not isinstance(value, dict):
        raise InvalidRequest(
            f"{path} is no mission: it must be a mapping with at least `goal`, `budget_usd` and "
            "`inputs`; `chimera mission schema` shows all fields"
        )
    document = Document(value, root)
    _find_duplicates(root, (), document, set())
    return document


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidRequest(f"{path} has more than {MAX_FILE_BYTES:,} bytes: name its inputs as files")
        return path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise InvalidRequest(f"{path} cannot be read ({exc.strerror}): check the path") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{path} is no text in UTF-8: a mission is written in YAML or JSON") from exc


def _find_duplicates(node: yaml.Node, place: Place, document: Document, seen: set[int]) -> None:
    """YAML would keep the last of two equal keys and say nothing; we refuse."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name = str(key.value)
            line = key.start_mark.line + 1
            if name in lines:
                message = f", {shown((*place, name))}: stands twice, first on line {lines[name]}; remove one"
                document.found.append((line, message))
            lines[name] = line
            _find_duplicates(value, (*place, name), document, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _find_duplicates(item, (*place, index), document, seen)


def validate(document: Document) -> MissionFile | None:
    """The mission, or None with the document's problems filled in."""
    value = dict(document.value)
    inputs = _validate_inputs(document, value)
    if inputs is not None:
        value["inputs"] = inputs
    else:
        value.pop("inputs", None)
    try:
        mission = MissionFile.model_validate(value)
    except ValidationError as exc:
        for error in own_errors(exc):
            _add(document, MissionFile, (), error)
        return None
    return None if document.problems else mission


def _validate_inputs(document: Document, value: dict[str, Any]) -> Any:
    """The inputs by the one form they are written in, so that problems speak of that form only."""
    given = value.get("inputs")
    plan = value.get("plan")
    is_dag = isinstance(plan, dict) and plan.get("strategy") == "dag"
    if is_dag:
        return given
    if given is None or given == []:
        document.add(
            ("inputs",),
            "is empty: list at least one item, or name files: `inputs: {files: [docs/*.md]}`",
        )
    elif isinstance(given, dict):
        form = InputItems if "items" in given and "files" not in given else InputFiles
        try:
            return form.model_validate(given)
        except ValidationError as exc:
            for error in own_errors(exc):
                _add(document, form, ("inputs",), error)
    elif isinstance(given, list):
        return tuple(given)
    else:
        document.add(
            ("inputs",),
            "must be a list of items, or {files: [...], format: text|jsonl|csv}, or {items: [...]}",
        )
    return ("unread",)  # stands in, so that the other fields are checked too


def _add(document: Document, model: type[BaseModel], prefix: Place, error: dict[str, Any]) -> None:
    place = prefix + tuple(error["loc"])
    document.add(place, sentence(error, model))


def own_errors(failure: ValidationError) -> list[dict[str, Any]]:
    """pydantic's errors, but for "too short" of a list that is only short of the items that were wrong."""
    errors = [cast("dict[str, Any]", error) for error in failure.errors()]
    places = [error["loc"] for error in errors]
    return [
        error
        for error in errors
        if error["type"] != "too_short"
        or not any(len(place) > len(error["loc"]) == _common(place, error["loc"]) for place in places)
    ]


def _common(one: Place, other: Place) -> int:
    return sum(1 for a, b in zip(one, other, strict=False) if a == b)


def sentence(error: dict[str, Any], model: type[BaseModel]) -> str:
    """One problem, as pydantic reports it, in words that help."""
    say = SENTENCES.get(error["type"], _other)
    return say(error, model)


def _extra(error: dict[str, Any], model: type[BaseModel]) -> str:
    allowed = sorted(fields_at(model, error["loc"][:-1]))
    name = str(error["loc"][-1])
    return f"there is no such field{nearest(name, allowed)}; allowed here: {', '.join(allowed)}"


def _missing(error: dict[str, Any], model: type[BaseModel]) -> str:
    info = fields_at(model, error["loc"][:-1]).get(str(error["loc"][-1]))
    return f"is missing: {info.description}" if info is not None and info.description else "is missing"


def _choice(error: dict[str, Any], _model: type[BaseModel]) -> str:
    context = error["ctx"]
    expected = str(context.get("expected") or context.get("expected_tags", ""))
    allowed = [part.strip(" '") for part in expected.replace(" or ", ", ").split(",")]
    wrong = context.get("tag", error.get("input"))
    return f"{wrong!r} is not allowed{nearest(str(wrong), allowed)}; one of: {', '.join(allowed)}"


def _untagged(error: dict[str, Any], _model: type[BaseModel]) -> str:
    return f"must say which kind it is with `{str(error['ctx'].get('discriminator', '')).strip(chr(39))}`"


def _own_words(error: dict[str, Any], _model: type[BaseModel]) -> str:
    return str(error["msg"]).removeprefix("Value error, ")


def _pattern(error: dict[str, Any], _model: type[BaseModel]) -> str:
    return f"{_short(error.get('input'))} does not match {error['ctx']['pattern']}"


def _short_list(error: dict[str, Any], _model: type[BaseModel]) -> str:
    return f"needs at least {error['ctx']['min_length']} of them"


def _other(error: dict[str, Any], _model: type[BaseModel]) -> str:
    message = re.sub(r"^(?:\w+ )?[Ii]nput should ", "", str(error["msg"])).replace("valid tuple", "list")
    return f"must {message} (it is {_short(error.get('input'))})"


SENTENCES: dict[str, Callable[[dict[str, Any], type[BaseModel]], str]] = {
    "extra_forbidden": _extra,
    "missing": _missing,
    "literal_error": _choice,
    "enum": _choice,
    "union_tag_invalid": _choice,
    "union_tag_not_found": _untagged,
    "value_error": _own_words,
    "string_pattern_mismatch": _pattern,
    "too_short": _short_list,
}
"""How each kind of pydantic's errors is put into words; any other says its message."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """``" (did you mean budget_usd?)"``, or nothing."""
    near = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def fields_at(model: type[BaseModel], place: Place) -> dict[str, FieldInfo]:
    """The fields a mapping at this place of the model may have; members of unions by their tag."""
    models = [model]
    for part in place:
        if isinstance(part, int):
            continue
        inner = [found for one in models if part in named(one) for found in _models(named(one)[part])]
        models = inner or [one for one in models if _is_tagged(one, part)] or models
    return {name: info for one in models for name, info in named(one).items()}


def named(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """A model's fields by the names people write."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Every model an annotation may hold."""
    if isinstance(annotation, FieldInfo):
        return _models(annotation.annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models(part)]


def _is_tagged(model: type[BaseModel], tag: str) -> bool:
    return any(
        tag in get_args(info.annotation)
        for info in model.model_fields.values()
        if getattr(info.annotation, "__origin__", None) is Literal
    )


def _checked(
    mission: MissionFile, document: Document, folder: Path, max_input_bytes: int, max_inputs: int
) -> tuple[tuple[Any, ...] | FileItems, int]:
    """The inputs, gone through once, and how many they are. Problems go to the document."""
    inputs: tuple[Any, ...] | FileItems
    if isinstance(mission.inputs, InputFiles):
        inputs, missing = missioninputs.find(mission.inputs, folder, LINE_SHARE * max_input_bytes)
        for index, message in missing:
            document.add(("inputs", "files", index), message)
        named = _from_files(inputs, document)
    else:
        inputs = mission.inputs.items if isinstance(mission.inputs, InputItems) else mission.inputs
        base: Place = ("inputs", "items") if isinstance(mission.inputs, InputItems) else ("inputs",)
        named = ((shown((*base, index)), item) for index, item in enumerate(inputs))
    count = wrong = 0
    for name, item in named:
        count += 1
        if problem := missioninputs.problem_of(item, max_input_bytes):
            wrong += 1
            if wrong <= MAX_WRONG:
                document.add(("inputs",), f"{name} {problem}")
    if wrong > MAX_WRONG:
        document.add(("inputs",), f"and {wrong - MAX_WRONG:,} more items like these")
    if isinstance(inputs, FileItems) and not count and not document.problems:
        document.add(("inputs",), "hold no item: the files are empty")
    if count > max_inputs:
        document.add(
            ("inputs",),
            f"{count:,} items are over the limit of {max_inputs:,}: "
            "split the mission, or raise CHIMERA_MAX_INPUTS",
        )
    return inputs, count


def _from_files(inputs: FileItems, document: Document) -> Iterator[tuple[str, Any]]:
    """Every item with where it came from; a file that gives none any more is a problem of its pattern."""
    for source in inputs.sources:
        try:
            yield from inputs.read(source)
        except missioninputs.Unusable as exc:
            document.add(("inputs", "files", source.pattern), f"{source.name} {exc}")


def schema_text() -> str:
    """The JSON Schema of a mission file, as docs/mission.schema.json has it."""
    schema = MissionFile.model_json_schema()
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Chimera mission file"}
    return json.dumps({**head, **{k: v for k, v in schema.items() if k != "title"}}, indent=2) + "\n"
