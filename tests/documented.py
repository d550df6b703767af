"""Every command of the documents, and how one knows that it works: the test that runs it, or why none does.

A command is a program with its subcommands (`chimera spend audit`, `make test`, `ray job submit`), in each
fenced block of shell. `tests/test_documented.py` holds documents and table together, both ways.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import typer.main
from typer.core import TyperGroup

from chimera.cli.app import app

ROOT = Path(__file__).parents[1]
FENCED = re.compile(
    r"^(?P<fence> *```+)(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=fence)", re.MULTILINE | re.DOTALL
)
TOKEN = re.compile(
    r"""(?P<skip>[ \t]+|\\\n|(?<![^\s;(|&])\#[^\n]*)
    |(?P<end>[\n;|&()]+)
    |(?P<word>(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|>&\d|[^\s;|&()'"\\])+)""",
    re.VERBOSE,
)
HERE = re.compile(r"^(?P<line>[^\n]*<<[-]?'?(?P<end>\w+)'?[^\n]*\n).*?^(?P=end)$", re.MULTILINE | re.DOTALL)
"""A document in a script: text, no commands."""
ASSIGNED = re.compile(r"[A-Za-z_]+=")
WRAPPERS = {"exec", "sudo", "{"}
SHELL = {"export", "echo", "cat", "cd", "}", "printf", "cp", "mv", "cut", "sha256sum", "openssl", "digest"}
"""What any shell does, or a function of the script itself: nothing of ours."""

CLI, ACCEPTANCE = "tests/cli", "tests/acceptance"
LIFE = (
    f"{ACCEPTANCE}/test_first_agent.py::"
    "test_a_newcomers_agent_runs_alone_and_on_the_fleet_as_the_document_says"
)
TOLD = f"{CLI}/test_missions.py::test_a_mission_is_listed_shown_recorded_and_read"
DRAINED = f"{CLI}/test_draining.py::test_a_drained_worker_hands_back_and_another_takes_over"
CHANGED = f"{CLI}/test_missions.py::test_a_running_mission_is_changed_and_cancelled"
REDRIVEN = f"{CLI}/test_missions.py::test_failed_tasks_are_found_by_reason_and_redriven_when_confirmed"
ACTIONS = f"{CLI}/test_actions.py::test_failed_actions_are_found_by_host_and_retried_when_confirmed"
BRAKES = f"{CLI}/test_governor.py::test_one_tenant_is_frozen_shown_and_thawed"
KEYS = f"{CLI}/test_tenants.py::test_a_key_is_made_listed_rotated_and_revoked"
LETTERS = f"{CLI}/test_sinks.py::test_dead_letters_are_listed_retried_and_dropped"
NODES = "tests/serving/node/test_cluster.py"
STACK = "tests/deploy/test_stack.py"
ALONE = (
    "tests/deploy/test_alone.py::"
    "test_a_mission_with_a_model_runs_in_it_it_ends_when_it_is_asked_to_and_its_volume_keeps_all"
)
WRITTEN = "tests/deploy/test_secrets.py::test_the_file_is_its_owners_alone_from_the_start"
TENANTS = f"{CLI}/test_tenants.py::test_a_tenant_is_suspended_resumed_and_removed_for_the_record"

TO_THE_LETTER: dict[str, str] = {"docs/first-agent.md": LIFE}
"""Document → the test that runs every line of its blocks as it stands there."""

PROVED: dict[str, str] = {
    "chimera action list": ACTIONS,
    "chimera action retry": ACTIONS,
    "chimera agent new": f"{CLI}/test_commands.py::test_a_new_agent_runs_at_once_and_is_judged",
    "chimera agent run": f"{CLI}/test_commands.py::test_a_new_agent_runs_at_once_and_is_judged",
    "chimera chaos faults": f"{CLI}/test_commands.py::test_every_fault_of_the_drill_is_told",
    "chimera chaos run": "make chaos-ci",
    "chimera doctor": f"{CLI}/test_missions.py::test_doctor_ends_with_the_code_of_what_is_wrong",
    "chimera down": LIFE,
    "chimera fleet drain": DRAINED,
    "chimera fleet limits": f"{CLI}/test_tenants.py::"
    "test_limits_over_all_tenants_are_set_and_raised_with_a_reason_only",
    "chimera fleet workers": DRAINED,
    "chimera governor freeze": BRAKES,
    "chimera governor override": f"{CLI}/test_governor.py::test_an_override_says_when_it_ends",
    "chimera governor status": BRAKES,
    "chimera governor thaw": BRAKES,
    "chimera key create": KEYS,
    "chimera key list": KEYS,
    "chimera key revoke": KEYS,
    "chimera key rotate": KEYS,
    "chimera logs": f"{ACCEPTANCE}/test_log.py::test_logs_shows_what_is_asked_for_and_goes_on",
    "chimera mission estimate": f"{CLI}/test_spend.py::test_a_mission_is_estimated_before_it_runs",
    "chimera mission cancel": CHANGED,
    "chimera mission list": TOLD,
    "chimera mission pause": f"{CLI}/test_missions.py::test_a_running_mission_is_paused_and_goes_on",
    "chimera mission results": TOLD,
    "chimera node head": f"{NODES}::test_a_mission_from_outside_is_worked_on_and_judged",
    "chimera node judge": f"{NODES}::"
    "test_while_the_judge_s_node_is_away_nothing_is_accepted_and_nothing_lost",
    "chimera node worker": f"{NODES}::test_a_worker_s_node_that_dies_takes_no_result_with_it",
    "chimera recorder dead drop": LETTERS,
    "chimera recorder dead list": LETTERS,
    "chimera recorder dead retry": LETTERS,
    "chimera recorder show": TOLD,
    "chimera recorder verify": f"{CLI}/test_recorder.py::test_verify_names_what_is_wrong_and_exits_1",
    "chimera recorder sinks": f"{CLI}/test_sinks.py::"
    "test_sinks_say_how_far_each_is_and_why_it_does_not_go_on",
    "chimera review list": f"{CLI}/test_missions.py::test_what_waits_for_a_human_exits_5_and_is_answered",
    "chimera run": f"{ACCEPTANCE}/test_missions.py::test_run_prints_documents_that_parse_and_exits_0",
    "chimera spend": f"{CLI}/test_spend.py::test_spend_writes_json_and_csv",
    "chimera spend ack": f"{CLI}/test_spend.py::test_one_missions_flag_is_acknowledged_and_the_others_stay",
    "chimera spend audit": f"{CLI}/test_spend.py::test_an_invoice_is_compared_and_its_mistakes_are_named",
    "chimera spend flags": f"{CLI}/test_spend.py::test_flags_stand_in_reviews_too_until_acknowledged",
    "chimera status": f"{ACCEPTANCE}/test_missions.py::test_status_and_doctor_find_the_fleet_well",
    "chimera task get": TOLD,
    "chimera task list": REDRIVEN,
    "chimera task redrive": REDRIVEN,
    "chimera task why": f"{CLI}/test_why.py::test_a_paused_task_says_what_holds_it_and_what_to_do",
    "chimera tenant add": f"{CLI}/test_tenants.py::test_a_tenant_is_made_once_with_a_key_that_acts_for_it",
    "chimera tenant audit": TENANTS,
    "chimera tenant get": f"{CLI}/test_tenants.py::test_a_quota_is_changed_shown_and_reset",
    "chimera tenant render": f"{CLI}/test_render.py::"
    "test_a_bundle_is_yaml_on_stdout_and_its_size_is_told_beside",
    "chimera tenant resume": TENANTS,
    "chimera tenant set": f"{CLI}/test_tenants.py::test_limits_are_set_lowered_and_raised_only_with_a_reason",
    "chimera tenant suspend": TENANTS,
    "chimera up": LIFE,
    "docker build": "tests/deploy/test_image.py::"
    "test_docker_build_makes_what_runs_as_a_numbered_user_behind_an_init",
    "docker compose down": f"{STACK}::"
    "test_what_down_leaves_is_there_after_up_and_the_operators_login_may_be_another_one",
    "docker compose exec": f"{STACK}::test_the_operators_commands_run_in_the_hubs_container",
    "docker compose up": f"{STACK}::test_more_workers_are_used_and_those_that_go_hand_back_what_they_have",
    "docker exec": ALONE,
    "docker run": ALONE,
    "docker stop": ALONE,
    "docker/secrets": WRITTEN,
    "make check": "tests/ci/test_gates.py::test_the_tree_as_it_is_passes_every_static_gate",
    "make demo": f"{ACCEPTANCE}/test_demo.py::"
    "test_the_demo_shows_work_refusal_and_recovery_and_leaves_nothing",
    "make setup": "make test",
    "make test": "make test",
    "ray job submit": f"{ACCEPTANCE}/test_jobs.py::test_a_job_runs_a_mission_whose_key_no_one_wrote_down",
    "kubectl create": "tests/kuberay/test_installing.py::test_they_have_the_keys_of_the_examples",
    "serve deploy": f"{ACCEPTANCE}/test_serve_config.py::"
    "test_serve_deploy_brings_up_the_files_shape_and_the_hub_works_on",
}
"""Command → the test that runs it, as pytest names it; or the target of `.ci/run` whose rule says it."""

NOT_RUN: dict[str, str] = {
    "chimera chaos check": "needs what a drill kept: the drill itself runs that checker at its end "
    "(make chaos-ci), and tests/chaos/test_checker.py holds it to histories that are wrong",
    "curl": "no test needs that program: tests/serving/gateway/test_lines.py sends the same request",
    **dict.fromkeys(
        [f"kubectl {verb}" for verb in ("apply", "cp", "delete", "exec", "get", "scale", "wait")],
        "needs an API server, which no gate has: tests/kuberay checks what is sent, and follows the runbook",
    ),
    **dict.fromkeys(
        ["kubectl describe", "kubectl logs"],
        "needs a Kubernetes, and no gate has one: they show what there is, and change nothing",
    ),
    "docker push": "needs a registry, which no gate has",
    "ray start": "an excerpt of somebody's own start of a cluster; ours is what `chimera up` does",
}
"""Command → why no test runs it."""


class Documented(NamedTuple):
    """A command as a document has it."""

    path: Path
    name: str
    words: tuple[str, ...]


def documents() -> list[Path]:
    """Every page for readers, but for the changelog and the licences."""
    folders = (ROOT / "docs", ROOT / "docker", ROOT / "kuberay")
    pages = [*ROOT.glob("*.md"), *(page for folder in folders for page in folder.rglob("*.md"))]
    return sorted(page for page in pages if page.name not in {"CHANGELOG.md", "THIRD_PARTY.md"})


def commands(path: Path) -> Iterator[Documented]:
    """Every command in the fenced blocks of a document."""
    for script in scripts(path):
        for words in split(script):
            if name := named(words):
                yield Documented(path, name, tuple(words))


def scripts(path: Path) -> Iterator[str]:
    """Every fenced block of shell."""
    for block in FENCED.finditer(path.read_text(encoding="utf-8")):
        if block["language"] in {"", "sh", "bash", "console"}:
            yield block["code"]


def split(code: str) -> Iterator[list[str]]:
    """The simple commands of a script, as words."""
    words: list[str] = []
    for token in TOKEN.finditer(HERE.sub(r"\g<line>", code)):
        if token["word"]:
            words += shlex.split(token["word"]) or [""]
        elif token["end"] and words:
            yield words
            words = []
    if words:
        yield words


def named(words: list[str]) -> str:
    """The program and its subcommands; "" for what is the shell's alone."""
    rest = [word for word in words if not ASSIGNED.match(word)] if ASSIGNED.match(words[0]) else list(words)
    while rest and rest[0] in WRAPPERS:
        rest.pop(0)
    if not rest or rest[0] in SHELL:
        return ""
    program, *arguments = rest
    program = program.removeprefix(".venv/bin/")
    if program == "chimera":
        return " ".join(["chimera", *subcommands(arguments)])
    if program == "python" and arguments[:1] == ["-m"]:
        return f"python -m {arguments[1]}"
    if program == "kubectl" and arguments[:1] == ["-n"]:
        arguments = arguments[2:]
    known = [word for word in arguments if re.fullmatch(r"[a-z][a-z-]*", word)]
    depth = 2 if known[:1] == ["compose"] else DEPTH.get(program, 1)
    return " ".join([program, *known[:depth]])


DEPTH = {"curl": 0, "ray": 2}
"""How many words after a program say what it does; one, unless they are more or none."""


def unsaid(name: str, proof: str) -> list[str]:
    """The words of a command that its proof does not have: it was rewritten, or never ran it.

    Looked at are the file of a test, of one with containers the test itself, and of a make target its rule.
    """
    file, _, test = proof.partition("::")
    if target := re.fullmatch(r"make ([a-z-]+)", proof):
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        (rule,) = re.findall(rf"^{target[1]}:[^\n]*\n(?:\t[^\n]*\n)*", makefile, re.MULTILINE)
        said = re.sub(r"##[^\n]*", "", rule)
    else:
        said = (ROOT / file).read_text(encoding="utf-8")
        if file.startswith("tests/deploy/test_"):
            (said,) = (
                ast.get_source_segment(said, node) or ""
                for node in ast.parse(said).body
                if isinstance(node, ast.FunctionDef) and node.name == test
            )
    words = name.removeprefix("chimera ").removeprefix("make ").split()
    return [word for word in words if not re.search(rf"\b{word}\b", said)]


def subcommands(arguments: list[str]) -> Iterator[str]:
    """Those of the words that name a command of ours."""
    group = typer.main.get_command(app)
    for word in arguments:
        if not isinstance(group, TyperGroup) or word not in group.commands:
            return
        yield word
        group = group.commands[word]
