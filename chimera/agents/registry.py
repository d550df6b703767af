"""Which agents there are, and what each is called.

`@agent` only marks a function; a `Registry` collects marked functions from modules that the
operator chose: the built-in ones, the entry points of group ``chimera.agents``, and the files and
modules that CHIMERA_AGENTS names. A name that comes over HTTP is looked up here and nowhere else,
so no client can name an import path.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_type_hints, overload

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError

from chimera.core.mission import AGENT_PATTERN
from chimera.errors import ConfigurationError, InvalidRequest, NotFound

ENTRY_POINT_GROUP = "chimera.agents"
BUILT_IN = ("chimera.agents.llm",)
MARK = "__chimera_agent__"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Marking:
    """What the decorator leaves on a function."""

    name: str
    options: type[BaseModel] | None
    accepts: Any


@overload
def agent(name: F, /) -> F: ...
@overload
def agent(
    name: str | None = None, /, *, options: type[BaseModel] | None = None, accepts: Any = None
) -> Callable[[F], F]: ...
def agent(
    name: str | F | None = None, /, *, options: type[BaseModel] | None = None, accepts: Any = None
) -> F | Callable[[F], F]:
    """Mark a function as an agent: `@agent`, or `@agent("name", options=MyOptions)`.

    Args:
        name: what missions call it; by default the function's own name with `_` kept.
        options: a pydantic model of the mission's `options`; a mission whose options do not fit
            it is refused before anything is submitted. Without one, any options are taken.
        accepts: a pydantic model or TypedDict of its input items, for people to read.
    Raises:
        ConfigurationError: the name does not match ``^[a-z][a-z0-9_-]{0,62}$``.
    """

    def mark(function: F) -> F:
        chosen = name if isinstance(name, str) else function.__name__
        if not re.fullmatch(AGENT_PATTERN, chosen):
            raise ConfigurationError(
                f"{chosen!r} cannot name an agent: use lower-case letters, digits, - and _, "
                "beginning with a letter, at most 63 characters"
            )
        setattr(function, MARK, Marking(chosen, options, accepts))
        return function

    return mark(name) if callable(name) else mark


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """An agent as people see it.

    Attributes:
        description: the first paragraph of its docstring.
        blocking: a plain `def`, run in a thread of its own.
        source: the module or file it came from.
        input_schema, output_schema: JSON Schema of what it accepts and of its result, where the
            decorator (`accepts=`) and the return annotation name a pydantic model or a TypedDict.
        option_keys: the keys a mission's `options` may have; None when any are taken.
    """

    name: str
    description: str
    blocking: bool
    source: str
    input_schema: dict[str, Any] | None
    output_schema: dict[str, Any] | None
    option_keys: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Registered:
    """An agent that may be run."""

    info: AgentInfo
    run: Callable[..., Any]
    options: type[BaseModel] | None

    def options_of(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A mission's options as the agent gets them: what is given, and its model's defaults for the rest.

        Raises:
            InvalidRequest: with one line for each problem, `options.<key>: …`.
        """
        if self.options is None:
            return dict(given)
        try:
            read = self.options.model_validate(dict(given))
        except ValidationError as exc:
            raise InvalidRequest(
                f"the options do not fit agent {self.info.name!r}",
                tuple(_problem(error, self.info.option_keys or ()) for error in exc.errors()),
            ) from exc
        # What is given stays as it is written, so that the agent's own model takes the whole again.
        return {**read.model_dump(by_alias=True, exclude=read.model_fields_set), **given}


class Registry:
    """Agents by name. Build with `load`, or empty and `add` modules."""

    def __init__(self) -> None:
        self._agents: dict[str, Registered] = {}

    @classmethod
    def load(cls, allowed: str = "") -> Registry:
        """The built-in agents, those of installed packages, and the operator's own.

        Args:
            allowed: CHIMERA_AGENTS: comma-separated .py files or module names.
        Raises:
            ConfigurationError: a file or module cannot be read or imported, holds no agent, or
                brings a name that is taken; the message says which and what to do.
        """
        registry = cls.built_in()
        for point in entry_points(group=ENTRY_POINT_GROUP):
            registry.add(import_module(point.module), f"{point.module} (entry point {point.name})")
        for place in filter(None, (part.strip() for part in allowed.split(","))):
            module = import_file(Path(place)) if place.endswith(".py") else import_module(place)
            registry.add(module, place)
        return registry

    @classmethod
    def built_in(cls) -> Registry:
        """Our own agents alone: what a process may load that must run nobody else's code."""
        registry = cls()
        for name in BUILT_IN:
            registry.add(importlib.import_module(name), name)
        return registry

    def add(self, module: ModuleType, source: str) -> None:
        """Take in every marked function of a module."""
        found = list(marked(module))
        if not found:
            raise ConfigurationError(
                f"{source} holds no agent: put @agent above a function (task, ctx), "
                "or take it out of CHIMERA_AGENTS"
            )
        for function, marking in found:
            if (known := self._agents.get(marking.name)) is not None:
                if known.run is function:
                    continue
                raise ConfigurationError(
                    f"two agents are named {marking.name!r}, in {known.info.source} and in {source}: "
                    "rename one of them"
                )
            info = describe(function, marking, source)
            self._agents[marking.name] = Registered(info, function, marking.options)

    def get(self, name: str) -> Registered:
        """The agent of that name.

        Raises:
            NotFound: with the nearest names there are.
        """
        if (found := self._agents.get(name)) is not None:
            return found
        near = difflib.get_close_matches(name, self._agents, n=3, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(self._agents))}"
        )
        raise NotFound(f"no agent is named {name[:80]!r}: {hint} (agents are registered by CHIMERA_AGENTS)")

    def infos(self) -> tuple[AgentInfo, ...]:
        """Every agent, by name."""
        return tuple(self._agents[name].info for name in sorted(self._agents))

    def __contains__(self, name: object) -> bool:
        return name in self._agents

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._agents))

    def __len__(self) -> int:
        return len(self._agents)


def marked(module: ModuleType) -> Iterable[tuple[Callable[..., Any], Marking]]:
    """The marked functions a module defines (not those it merely imports), in their order."""
    for value in vars(module).values():
        marking = getattr(value, MARK, None) if inspect.isfunction(value) else None
        if isinstance(marking, Marking) and value.__module__ == module.__name__:
            yield value, marking


def import_module(name: str) -> ModuleType:
    """Import an operator's module; whatever its code raises becomes one clear sentence."""
    try:
        return importlib.import_module(name)
    except ConfigurationError:
        raise
    except Exception as exc:  # the module's own code may raise anything
        raise ConfigurationError(
            f"the agents in module {name!r} cannot be imported ({type(exc).__name__}: {exc}): "
            "install it, mend it, or take it out of CHIMERA_AGENTS"
        ) from exc


def import_file(path: Path) -> ModuleType:
    """Import one file under a module name made from its full path, so that two `agents.py` may live."""
    path = path.expanduser().resolve()
    name = f"chimera_agents_{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigurationError(f"there is no agents file {path}: give the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: its own pydantic models look their names up here
    try:
        spec.loader.exec_module(module)
    except BaseException as exc:
        del sys.modules[name]
        if not isinstance(exc, Exception) or isinstance(exc, ConfigurationError):
            raise
        raise ConfigurationError(
            f"the agents file {path} cannot be imported ({type(exc).__name__}: {exc}): "
            "mend it, or take it out of CHIMERA_AGENTS"
        ) from exc
    return module


def describe(function: Callable[..., Any], marking: Marking, source: str) -> AgentInfo:
    """What can be known of an agent without running it."""
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError):  # a name only a type checker knows
        hints = {}
    fields = marking.options.model_fields if marking.options else None
    return AgentInfo(
        name=marking.name,
        description=(inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " "),
        blocking=not inspect.iscoroutinefunction(function),
        source=source,
        input_schema=json_schema(marking.accepts),
        output_schema=json_schema(hints.get("return")),
        option_keys=None if fields is None else tuple(fields),
    )


def json_schema(annotation: Any) -> dict[str, Any] | None:
    """The JSON Schema of a pydantic model or a TypedDict; None for any other annotation."""
    structured = inspect.isclass(annotation) and (
        issubclass(annotation, BaseModel) or hasattr(annotation, "__required_keys__")
    )
    if not structured:
        return None
    try:
        return TypeAdapter(annotation).json_schema()
    except PydanticUserError:  # holds a type JSON cannot describe
        return None


def _problem(error: Any, allowed: tuple[str, ...]) -> str:
    place = ".".join(("options", *(str(part) for part in error["loc"])))
    if error["type"] == "extra_forbidden":
        return f"{place}: there is no such option; there are: {', '.join(allowed)}"
    return f"{place}: {str(error['msg']).removeprefix('Value error, ')}"
