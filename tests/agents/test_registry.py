"""Agents by name: who may be registered, and what a stranger's name resolves to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chimera.agents.registry import Registry, agent, import_file
from chimera.errors import ConfigurationError, InvalidRequest, NotFound

ROOT = Path(__file__).parents[2]

GREETER = '''
from typing_extensions import TypedDict
from pydantic import BaseModel
from chimera.agents import Context, agent

class Greeting(BaseModel):
    words: str

class Person(TypedDict):
    name: str

class Options(BaseModel, extra="forbid"):
    loud: bool = False

@agent("greeter", options=Options, accepts=Person)
async def greet(task, ctx: Context) -> Greeting:
    """Greets the person in the input.

    More words.
    """
    return Greeting(words="hello")

@agent
def plain_one(task, ctx):
    """Blocks."""
'''


def write(folder: Path, text: str, name: str = "mine.py") -> str:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_a_file_of_agents_is_described(tmp_path: Path) -> None:
    registry = Registry.load(write(tmp_path, GREETER))
    assert list(registry) == ["greeter", "llm", "plain_one"]
    info = registry.get("greeter").info
    assert info.description == "Greets the person in the input."
    assert not info.blocking
    assert info.option_keys == ("loud",)
    assert info.input_schema is not None
    assert info.input_schema["required"] == ["name"]
    assert info.output_schema is not None
    assert "words" in info.output_schema["properties"]
    assert registry.get("plain_one").info.blocking


def test_the_examples_load() -> None:
    files = ",".join(str(path) for path in sorted((ROOT / "examples" / "agents").glob("*.py")))
    registry = Registry.load(files)
    assert {"word-count", "headlines"} <= set(registry)
    assert all(info.description for info in registry.infos())


def test_an_unknown_name_lists_near_ones() -> None:
    with pytest.raises(NotFound, match="did you mean llm"):
        Registry.load().get("lmm")


@pytest.mark.parametrize("name", ["os.system", "os:system", "../evil.py", "chimera.agents.llm", ""])
def test_no_import_path_resolves(name: str) -> None:
    with pytest.raises(NotFound):
        Registry.load().get(name)


def test_two_agents_of_one_name_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path, GREETER, "one.py")
    second = write(tmp_path, GREETER, "two.py")
    with pytest.raises(ConfigurationError, match=r"two agents are named 'greeter'.*one\.py.*two\.py"):
        Registry.load(f"{first},{second}")


def test_one_file_named_twice_is_no_conflict(tmp_path: Path) -> None:
    file = write(tmp_path, GREETER)
    assert "greeter" in Registry.load(f"{file}, {file}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import there_is_no_such_module", "cannot be imported.*there_is_no_such_module"),
        ("def broken(:", "cannot be imported.*SyntaxError"),
        ("x = 1", "holds no agent"),
        ("from chimera.agents.llm import llm", "holds no agent"),
    ],
)
def test_a_file_that_brings_no_agent_says_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Registry.load(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no agents file .*nowhere\.py"):
        Registry.load(str(tmp_path / "nowhere.py"))


def test_a_missing_module_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'no_such_agents' cannot be imported"):
        Registry.load("no_such_agents")


def test_a_failed_import_leaves_nothing_behind(tmp_path: Path) -> None:
    file = write(tmp_path, "1 / 0", "failing.py")
    with pytest.raises(ConfigurationError, match="ZeroDivisionError"):
        import_file(Path(file))
    assert not [name for name in sys.modules if name.startswith("chimera_agents_failing")]


def test_a_name_out_of_the_pattern_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="lower-case"):
        agent("Big Name")(lambda task, ctx: None)


def test_bad_options_are_found_before_anything_runs(tmp_path: Path) -> None:
    greeter = Registry.load(write(tmp_path, GREETER)).get("greeter")
    assert greeter.options_of({"loud": True}) == {"loud": True}
    with pytest.raises(InvalidRequest) as raised:
        greeter.options_of({"loud": "maybe", "tone": 1})
    assert raised.value.problems[1] == "options.tone: there is no such option; there are: loud"
    assert raised.value.problems[0].startswith("options.loud: ")


def test_importing_agents_stays_light() -> None:
    code = (
        "import sys, chimera.agents; "
        "heavy = {'pydantic_ai', 'ray', 'redis', 'genai_prices', 'xllamacpp'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


DEFAULTS = '''
from pydantic import BaseModel, Field, field_validator
from chimera import agent

class Style(BaseModel):
    tone: str = "dry"

class Options(BaseModel, extra="forbid"):
    words: tuple[str, ...] = ()
    most: int = Field(3, alias="max")
    style: Style = Style()

    @field_validator("words", mode="before")
    @classmethod
    def _split(cls, text):
        return text.split(",")

@agent("styled", options=Options)
def styled(task, ctx):
    """Reads its options."""
    return Options.model_validate(ctx.options).model_dump()

@agent("free")
def free(task, ctx):
    """Takes any."""
'''


def test_options_have_their_models_defaults_and_the_model_takes_them_again(tmp_path: Path) -> None:
    registry = Registry.load(write(tmp_path, DEFAULTS))
    styled = registry.get("styled")
    options = styled.options_of({"words": "a,b"})
    assert options == {"words": "a,b", "max": 3, "style": {"tone": "dry"}}
    assert styled.options is not None
    assert styled.options.model_validate(options).model_dump()["words"] == ("a", "b")
    assert registry.get("free").options_of({"any": 1}) == {"any": 1}
