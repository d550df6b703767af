"""Settings: the environment, read once at the start, validated whole, handed down.

Every variable is ``CHIMERA_<FIELD>``. A secret may come from a file instead:
``CHIMERA_<FIELD>_FILE`` names it (Docker and Kubernetes secrets). Nothing else is read: no
dotenv file, no configuration file. `chimera env` prints this table; `.env.example` is made
from it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from chimera.core.action import Allowed, HttpAction, address_of
from chimera.core.arguments import Arguments, Kinds, parse_headers
from chimera.core.brake import Rules
from chimera.core.money import MAX_PRICE_USD, microusd, parse_limits, parse_prices
from chimera.core.tenant import NAME, Quota
from chimera.errors import ConfigurationError

PREFIX = "CHIMERA_"
OF_LIMITS = "limits"
"""In place of a plan: that of the tenant's limits."""
MIN_KEEP_S = 300
"""No finished mission leaves Redis sooner after its end than this, in seconds, however full Redis is."""


def _plan(text: str) -> None:
    if text not in {"", OF_LIMITS} and not microusd(text):
        raise ValueError(f"write USD a day, for example 5, or `{OF_LIMITS}`, or leave it empty")


def _windows(text: str) -> None:
    if any("/" in limit for limit in parse_limits(text)):
        raise ValueError("the fleet has limits by window alone: minute, hour, day, month, year, lifetime")


def _instant(text: str) -> None:
    if text and datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("it has no zone: write 2026-11-29T00:00:00Z")


def _endpoint(text: str) -> None:
    host, _, port = text.rpartition(":")
    if text and not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ValueError("write host:port, for example chimera-core:6380")


def _ip(text: str) -> None:
    if text:
        ip_address(text)


FORMS: Mapping[str, Callable[[str], object]] = {
    "action_hosts": Allowed.parse,
    "tenant_limits": parse_limits,
    "fleet_limits": _windows,
    "model_prices": parse_prices,
    "brake_plan": _plan,
    "mcp_headers": parse_headers,
    "mcp_arguments": Arguments.parse,
    "mcp_kinds": Kinds.parse,
    "mcp_since": _instant,
    "mcp_hosts": Allowed.parse,
    "node_address": _endpoint,
    "node_ip": _ip,
}
"""Settings that are written in a form of their own → what reads it, and raises ValueError."""


class Settings(BaseSettings):
    """All settings. Frozen; build with `load`, not with the constructor."""

    # Hidden: a traceback would show a secret that does not fit.
    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, hide_input_in_errors=True
    )

    # Where things are
    url: str = Field(
        "http://127.0.0.1:8000",
        description="The hub's address, for clients. Unset: that of CHIMERA_HTTP_HOST and CHIMERA_HTTP_PORT.",
    )
    api_key: SecretStr | None = Field(None, description="A tenant's key, for clients.")
    redis_url: SecretStr | None = Field(
        None,
        description="Redis >= 7.0 or Valkey: redis://user:password@host:port/0, or rediss:// "
        "(an authority of your own: `?ssl_ca_certs=FILE`). "
        "Unset, `chimera up` starts an embedded one.",
    )
    redis_password: SecretStr | None = Field(None, description="Redis password, if the URL carries none.")
    redis_users: Literal["single", "roles"] = Field(
        "single",
        description="`roles`: each part of the hub and each tenant's workers log in to Redis as users of "
        "their own, who may do only what is theirs. `single`: all log in as CHIMERA_REDIS_URL says, for a "
        "Redis that denies ACL. Unset, `chimera up` chooses `roles` for its embedded Redis.",
    )
    redis_secret: SecretStr | None = Field(
        None,
        min_length=32,
        description="What the passwords of those users are derived from, at least 32 random characters. "
        "Unset, `chimera up` makes one.",
    )
    redis_generation: int = Field(
        1,
        ge=1,
        le=1_000_000,
        description="Of those passwords: raise it, and new ones are made; those of the generation before are "
        "taken too.",
    )
    state_dir: Path = Field(
        Path("~/.local/state/chimera").expanduser(),
        description="Where `chimera up` keeps the local fleet: Redis' data, logs, keys, pids.",
    )
    blob_url: str = Field(
        "",
        description="Where inputs and archives live: a directory or any fsspec URL. Empty: "
        "`blobs` under CHIMERA_STATE_DIR. More than one node needs shared storage.",
    )
    boundaries_file: Path | None = Field(
        None,
        description="A Markdown file whose fenced `chimera-boundaries` block states what always "
        "goes to a human. Unset: the block that ships with Chimera (that of AGENTS.md).",
    )

    # Agents and models
    agents: str = Field(
        "",
        description="Comma-separated Python files or modules that register agents. Beside the "
        "built-in ones and the entry points of group `chimera.agents`.",
    )
    model: str = Field(
        "", description="The model, `provider:name` or a name at CHIMERA_MODEL_URL. Empty: embedded."
    )
    model_url: str = Field("", description="An OpenAI-compatible endpoint, for example http://host/v1.")
    model_api_key: SecretStr | None = Field(None, description="The key for that endpoint.")
    chat_models: str = Field(
        "",
        description="Models that `POST /v1/chat/completions` may name beside CHIMERA_MODEL, comma-separated: "
        "`provider:name`, or names at CHIMERA_MODEL_URL.",
    )
    judge_model: str = Field("", description="The model of `llm` judges. Empty: CHIMERA_MODEL.")
    model_timeout_s: float = Field(60, gt=0, le=3600, description="One try of one model call, seconds.")
    chat_stream_s: float = Field(
        600,
        gt=0,
        le=7200,
        description="One streamed chat completion through the gateway, seconds; CHIMERA_MODEL_TIMEOUT_S "
        "bounds how long nothing may come of it.",
    )
    model_retries: int = Field(3, ge=0, le=10, description="Further tries after 429, 5xx or a timeout.")
    model_max_tokens: int = Field(
        512, ge=1, le=200_000, description="Output tokens of a call, unless the agent says."
    )
    model_price_input_usd: float | None = Field(
        None,
        ge=0,
        le=MAX_PRICE_USD,
        description="USD per million input tokens; wins over the price list. Embedded model: 0.05.",
    )
    model_price_output_usd: float | None = Field(
        None,
        ge=0,
        le=MAX_PRICE_USD,
        description="USD per million output tokens; wins over the price list. Embedded model: 0.20.",
    )
    model_prices: str = Field(
        "",
        description="USD per million input and output tokens by model, `gpt-5=1.25/10,openai:o4=2/8`; wins "
        "over everything else. A name has its provider, as CHIMERA_MODEL writes it, or not.",
    )
    unpriced: Literal["refuse", "ceiling"] = Field(
        "ceiling", description="A model with no known price: refuse it, or charge the ceiling."
    )
    price_ceiling_usd: float = Field(
        100,
        gt=0,
        le=MAX_PRICE_USD,
        description="USD per million tokens, in and out, of a model with no known price.",
    )
    embedded_model_threads: int = Field(2, ge=1, le=64, description="Threads of the embedded model.")
    embedded_model_slots: int = Field(2, ge=1, le=32, description="Calls the embedded model serves at once.")

    # Leases and time
    lease_s: float = Field(
        3.0, ge=0.2, le=300, description="A lease lasts this long unless renewed, seconds."
    )
    heartbeat_s: float = Field(
        0.75, ge=0.05, le=60, description="Workers renew this often; at most a third of the lease."
    )
    fast_rescue: bool = Field(
        True,
        description="Give back a worker's tasks as soon as Ray shows it dead, before its leases end.",
    )
    task_timeout_s: float = Field(
        300, gt=0, le=86_400, description="An attempt's time, where the mission sets none."
    )
    reserve_wait_s: float = Field(
        5.0, ge=0, le=300, description="How long a refused reservation waits in place."
    )
    hold_ttl_s: float = Field(
        120, gt=0, le=7200, description="A hold outlives its call's timeout by this much."
    )

    keep_replies_s: float = Field(
        86_400,
        ge=1,
        le=31_536_000,
        description="A settled call's reply is kept this long for a re-run of its task, which then does not "
        "pay again; less when the task is done.",
    )

    # Judging
    accept_above: float = Field(0.90, ge=0, le=1, description="Confidence above this accepts.")
    reject_below: float = Field(
        0.70, ge=0, le=1, description="Confidence below this rejects; between waits for a human."
    )
    max_attempts: int = Field(3, ge=1, le=100, description="Attempts of a task, where the mission sets none.")
    max_stale: int = Field(5, ge=1, le=100, description="Stale results of a task before a human is asked.")

    # Actions
    action_hosts: str = Field(
        "",
        description="Hosts that actions may reach, comma-separated: `hooks.example.com,localhost:9000`. "
        "Without a port: 80 or 443. Empty: none.",
    )
    action_timeout_s: float = Field(10, gt=0, le=300, description="One try of one action, seconds.")
    action_tries: int = Field(
        10,
        ge=1,
        le=100,
        description="Tries of an action before it is FAILED; a refusal for good ends it at once.",
    )
    max_actions: int = Field(16, ge=0, le=100, description="Actions one result may propose.")
    max_action_bytes: int = Field(
        65_536, ge=256, le=1_048_576, description="One proposed action, bytes of JSON."
    )

    # Size
    slots: int = Field(16, ge=1, le=10_000, description="Agents at once in one worker.")
    express_slots: int = Field(
        2, ge=0, le=1_000, description="Of these, kept for high priority (workers of more than one slot)."
    )
    worker_memory_mb: int = Field(
        4_096,
        ge=0,
        le=16_777_216,
        description="What the agents of one worker may allocate together, MiB, beside what its process has "
        "once they are imported; more is a MemoryError in the attempt that asks. 0: no limit.",
    )
    max_workers: int = Field(
        2,
        ge=0,
        le=10_000,
        description="Workers at once, over all tenants. 0: as many as the cluster's nodes have places for, "
        "where nobody adds nodes because workers wait (`chimera node worker` is one place).",
    )
    idle_s: float = Field(
        30, gt=0, le=86_400, description="A worker that no work needed for so long ends, seconds."
    )
    slo_s: float = Field(
        10,
        gt=0,
        le=86_400,
        description="A task of high priority that takes longer from submit to acceptance, time waiting for a "
        "human subtracted, is an event and counted, seconds.",
    )
    drain_s: float = Field(
        300,
        ge=0,
        le=86_400,
        description="A worker that leaves gives its attempts this long to end, seconds; then it hands "
        "them back.",
    )
    preempt_s: float = Field(
        5,
        ge=0.1,
        le=3_600,
        description="A worker whose place another tenant waits for gives attempts that are not of high "
        "priority at most this long, seconds; then it hands them back, uncounted.",
    )
    spares: int = Field(
        1,
        ge=0,
        le=1_000,
        description="Warm processes that belong to no tenant and are one's within milliseconds: so many "
        "tenants at once wake without waiting for a worker's or a node's start. Each takes about 180 MiB.",
    )
    plan_window: int = Field(
        2_000,
        ge=10,
        le=100_000,
        description="Unfinished tasks of a mission kept in Redis; the rest waits in the blob store.",
    )
    reduce_width: int = Field(
        20, ge=2, le=200, description="Results one reduce task takes in; more make a tree."
    )
    max_inputs: int = Field(1_000_000, ge=1, description="Inputs of a mission.")
    max_input_bytes: int = Field(262_144, ge=64, le=8_388_608, description="One input item, bytes of JSON.")
    max_mission_bytes: int = Field(
        8_388_608,
        ge=1_024,
        le=268_435_456,
        description="All of a mission but its inputs, bytes of JSON: it is kept in Redis, and read whenever "
        "the mission is looked at.",
    )
    max_result_bytes: int = Field(262_144, ge=64, le=8_388_608, description="One result, bytes of JSON.")
    max_kept_bytes: int = Field(
        262_144,
        ge=0,
        le=8_388_608,
        description="Replies kept for a re-run of one task, together, bytes. One beyond it is not kept: a "
        "re-run pays for it again.",
    )
    max_request_bytes: int = Field(
        33_554_432,
        ge=1_024,
        description="One HTTP request, bytes, but for a mission that comes as lines. A document is read in "
        "one go, which holds up the gateway for some 8 ms a MiB.",
    )
    max_chat_bytes: int = Field(
        4_194_304, ge=1_024, le=268_435_456, description="One request for a chat completion, bytes."
    )
    max_stream_bytes: int = Field(
        17_179_869_184, ge=1_024, description="A mission that comes as lines (NDJSON), bytes."
    )

    # The flight recorder
    recorder_live: int = Field(
        10_000,
        ge=0,
        le=10_000_000,
        description="Newest entries of a tenant's recorder that stay in Redis once they are archived.",
    )
    recorder_flush_s: float = Field(
        60, ge=0, le=86_400, description="A recorder's entry is archived within about this time, seconds."
    )
    recorder_payloads: int = Field(
        0,
        ge=0,
        le=16_384,
        description="Characters of each payload (result, prompt, reply, arguments of a tool, action) that "
        "the recorder has, redacted, for good. 0: its length and SHA-256 alone.",
    )

    # The flight recorder, to an MCP server; and Chimera as one
    mcp_url: str = Field(
        "",
        description="An MCP server (streamable HTTP) that is told of every event of the flight recorder. Its "
        "host must be one of CHIMERA_MCP_HOSTS. Empty: none.",
    )
    mcp_hosts: str = Field(
        "",
        description="Hosts that CHIMERA_MCP_URL may name, comma-separated, as in CHIMERA_ACTION_HOSTS: "
        "agents' "
        "actions do not reach them by this.",
    )
    mcp_headers: SecretStr | None = Field(
        None,
        description='Headers for that server, a JSON object: `{"Authorization": "Bearer …"}`.',
    )
    mcp_tool: str = Field("", max_length=200, description="The tool that is called there.")
    mcp_arguments: str = Field(
        '{"events": {"$each": "{event}"}}',
        max_length=65_536,
        description="Its arguments, a JSON template: `{id}`, `{kind}`, `{details.NAME}` …; `$each` makes "
        "a list "
        "of many events, else each is a call.",
    )
    mcp_batch: int = Field(
        100, ge=1, le=5_000, description="Most events of a call, where the template has `$each`."
    )
    mcp_kinds: str = Field(
        "",
        description="Kinds of events that are told, comma-separated: `mission.*,task.accepted`. Empty: all.",
    )
    mcp_since: str = Field(
        "",
        description="Nothing older is told, as 2026-11-29T00:00:00Z. Empty: all that is recorded and "
        "archived.",
    )
    mcp_timeout_s: float = Field(10, gt=0, le=300, description="One call of the tool, seconds.")
    mcp_concurrency: int = Field(4, ge=1, le=64, description="Calls of the tool at once, over all tenants.")
    mcp_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Share of a processor that telling the server takes while tasks wait for a place, or "
        "results for a judge; while none does it takes what it needs.",
    )
    mcp_tries: int = Field(
        5,
        ge=1,
        le=100,
        description="Tries of an event that the server refuses, before it is put aside as a dead letter. "
        "While "
        "the server is away nothing is put aside.",
    )
    mcp_origins: str = Field(
        "",
        description="Origins whose pages in a browser may call Chimera's own `/mcp`, comma-separated. "
        "Programs "
        "that are no browser send none, and need no entry.",
    )

    # Finished missions
    keep_missions_s: float = Field(
        604_800,
        ge=MIN_KEEP_S,
        description="A finished mission stays in Redis this long after its end, seconds; then it is archived "
        "in the blob store, where it can be read and not be changed. A full Redis archives sooner.",
    )

    # Money
    tenant_limits: str = Field(
        "",
        description="Limits of the local tenant, USD: `day=5,agent/digest/day=1,model/gpt-5/hour=2`. "
        "Windows: minute, hour, day, month, year, lifetime. Set when this changes: what was changed by "
        "other means stays.",
    )
    fleet_limits: str = Field(
        "",
        description="Limits over all tenants together, USD by window: `day=100`. Set when it changes.",
    )

    # Brakes
    brake_plan: str = Field(
        "",
        description="What each tenant plans to spend in a day, USD, for its brake; or `limits`: the tightest "
        "of its limits, spread evenly over its window. Empty: there is no plan, and no burn brakes.",
    )
    brake_short_s: int = Field(300, ge=10, le=3_600, description="The brake's short window, seconds.")
    brake_long_s: int = Field(
        1_800, ge=20, le=7_200, description="The brake's long window, seconds; at least twice the short."
    )
    brake_throttle_burn: float = Field(
        4,
        ge=0,
        le=1_000_000,
        description="Spending this many times the plan in both windows throttles a tenant: only high "
        "priority pays. 0: never.",
    )
    brake_freeze_burn: float = Field(
        8,
        ge=0,
        le=1_000_000,
        description="Spending this many times the plan in both windows freezes it: nothing paid starts. "
        "0: never.",
    )
    brake_floor_usd: float = Field(
        1,
        ge=0,
        le=1_000_000,
        description="A brake never acts by itself on less than this, spent in the long window, USD.",
    )
    brake_unaccepted_usd: float = Field(
        25,
        ge=0,
        le=1_000_000,
        description="Spent on tasks in the long window with nothing accepted since, USD: more throttles, "
        "more than twice this freezes. 0: never.",
    )
    brake_calm_s: int = Field(
        60, ge=1, le=3_600, description="It must be calm for so long before each step back, seconds."
    )
    brake_webhook_url: str = Field(
        "",
        description="Every change of a brake is sent there (POST, JSON). Its host must be one of "
        "CHIMERA_ACTION_HOSTS. Empty: nowhere.",
    )
    canary_s: float = Field(
        10,
        ge=0,
        le=3_600,
        description="So often a reservation is asked for that must be refused, seconds: if it is granted, "
        "everything freezes. 0: never.",
    )
    worker_hour_usd: float | None = Field(
        None,
        ge=0,
        le=MAX_PRICE_USD,
        description="What a worker costs an hour, USD: reports of spend then have a line for workers' hours. "
        "No limit counts it.",
    )

    # Tenants
    tenant_max_agents: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="Tasks under lease at once of a tenant without a quota of its own; 0: no bound but the "
        "places there are.",
    )
    tenant_max_ready: int = Field(
        100_000,
        ge=0,
        le=100_000_000,
        description="Unfinished tasks in Redis of a tenant without a quota of its own: at this many its new "
        "missions are refused. 0: no bound.",
    )
    tenant_requests_per_s: float = Field(
        500,
        ge=0,
        le=1_000_000,
        description="Requests a second, over all gateways, of a tenant without a quota of its own. "
        "0: no bound.",
    )
    tenant_burst: int = Field(
        1_000, ge=0, le=1_000_000, description="Its requests at once before that rate binds."
    )

    metrics_open: bool = Field(
        True,
        description="`/metrics` asks for no key. It names tenants: where strangers reach the API set 0, and "
        "give Prometheus a key of the fleet with the scope `read`.",
    )

    # A spoke
    spoke_tenant: str = Field(
        "",
        pattern=f"^({NAME.pattern})?$",
        description="The tenant whose workers `chimera spoke` keeps, on the Ray cluster that it runs on.",
    )
    spoke_grace_s: float = Field(
        20,
        ge=0,
        le=86_400,
        description="A spoke that is told to end gives its workers so long to hand in, or back, what they "
        "hold, seconds; then it ends them.",
    )

    # The local fleet
    http_host: str = Field("127.0.0.1", description="The address the API listens on.")
    http_port: int = Field(8000, ge=1, le=65_535, description="The port of the API.")
    ray_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description="Ray's GCS; 0 chooses a free port, and `chimera node head` 6380.",
    )
    dashboard_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description="Ray's dashboard; 0 chooses a free port, and `chimera node head` 8265.",
    )
    nodes: int = Field(
        0,
        ge=0,
        le=16,
        description="Ray nodes beside the head, which then run all workers; 0: the head runs them.",
    )
    node_idle_s: float = Field(
        0,
        ge=0,
        le=86_400,
        description="Above 0 these nodes come and go: Ray's own autoscaler starts one when a worker waits "
        "for a place, and ends it when it ran none for so long, seconds. 0: all are there from the start.",
    )
    fsync: Literal["always", "everysec"] = Field(
        "always",
        description="The embedded Redis' appendfsync: `everysec` may lose about 2 s of writes in a crash.",
    )

    # Nodes of a cluster, each a `chimera node` of its own: a container, or a machine
    node_address: str = Field(
        "",
        description="Where the head is, for `chimera node worker` and `judge`: host:port of its "
        "CHIMERA_RAY_PORT, for example chimera-core:6380.",
    )
    node_token: SecretStr | None = Field(
        None,
        min_length=32,
        description="What nodes of one cluster let each other in by, the same on all: Ray's token, at least "
        "32 random characters, for example what `openssl rand -hex 32` prints.",
    )
    node_ip: str = Field(
        "",
        description="The address by which other nodes reach this one. Empty: that from which it reaches the "
        "head; for the head, that from which it reaches Redis.",
    )
    node_agent_port: int = Field(
        52_365,
        ge=0,
        le=65_535,
        description="Where a node tells how it is: `/api/local_raylet_healthz`. 0 chooses a free port.",
    )
    node_metrics_port: int = Field(
        8080, ge=0, le=65_535, description="Where a node has Ray's metrics. 0 chooses a free port."
    )
    judge_resource: str = Field(
        "",
        max_length=64,
        pattern="^[A-Za-z0-9_-]*$",
        description="The Ray resource of nodes that judge: the judge runs there and nowhere else, for "
        "example `judge`, which `chimera node judge` offers. Empty: wherever there is room.",
    )

    # Isolation
    enclosure: Literal["auto", "require", "off"] = Field(
        "auto",
        description="What agents' processes may touch is bounded by the kernel (Landlock, seccomp): `auto` "
        "as far as it can, `require` or no worker starts, `off` not at all.",
    )
    agent_reads: str = Field(
        "",
        description="Comma-separated files and directories that agents may read, beside Python, the system's "
        "libraries and the files of CHIMERA_AGENTS.",
    )
    agent_writes: str = Field(
        "",
        description="Comma-separated directories that agents may write, beside a temporary one of their own.",
    )
    agent_env: str = Field(
        "",
        description="Comma-separated variables that agents get although their names look like secrets. "
        "Every tenant's agents see them.",
    )
    tenant_secrets_dir: Path | None = Field(
        None,
        description="Where tenants' secrets are: a file `<tenant>/<NAME>` each, read by the hub alone. "
        "`MODEL_API_KEY` is the tenant's own model key; agents find all in `ctx.secrets`.",
    )

    # Telemetry
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least level that is written."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else JSON lines."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, and the files it names; nothing else."""
        return (init_settings, env_settings, SecretFiles(settings_cls))

    @field_validator(*FORMS)
    @classmethod
    def _is_understood(cls, given: str | SecretStr | None, info: ValidationInfo) -> str | SecretStr | None:
        if given is not None:
            FORMS[str(info.field_name)](given.get_secret_value() if isinstance(given, SecretStr) else given)
        return given

    @model_validator(mode="after")
    def _fields_agree(self) -> Settings:
        problems = []
        if self.heartbeat_s > self.lease_s / 3:
            problems.append("CHIMERA_HEARTBEAT_S must be at most a third of CHIMERA_LEASE_S")
        if self.reject_below > self.accept_above:
            problems.append("CHIMERA_REJECT_BELOW must not be above CHIMERA_ACCEPT_ABOVE")
        if self.express_slots >= self.slots > 1:
            problems.append("CHIMERA_EXPRESS_SLOTS must be below CHIMERA_SLOTS")
        if self.brake_long_s < 2 * self.brake_short_s:
            problems.append("CHIMERA_BRAKE_LONG_S must be at least twice CHIMERA_BRAKE_SHORT_S")
        if 0 < self.brake_freeze_burn < self.brake_throttle_burn:
            problems.append("CHIMERA_BRAKE_FREEZE_BURN must not be below CHIMERA_BRAKE_THROTTLE_BURN")
        if self.brake_webhook_url:
            try:
                refusal = Allowed.parse(self.action_hosts).refusal(HttpAction(url=self.brake_webhook_url))
            except ValidationError as exc:
                refusal = str(exc.errors()[0]["msg"]).removeprefix("Value error, ")
            problems += [f"CHIMERA_BRAKE_WEBHOOK_URL: {refusal}"] if refusal else []
        problems += self._of_mcp() if self.mcp_url else []
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _of_mcp(self) -> list[str]:
        try:
            to = address_of(self.mcp_url)
        except ValueError as exc:
            return [f"CHIMERA_MCP_URL: {exc}"]
        found = (
            []
            if Allowed.parse(self.mcp_hosts).reaches(to)
            else [f"CHIMERA_MCP_URL: add {to} to CHIMERA_MCP_HOSTS"]
        )
        return found + (
            [] if self.mcp_tool else ["CHIMERA_MCP_URL needs CHIMERA_MCP_TOOL, the tool to call there"]
        )

    @property
    def address(self) -> str:
        """The hub's address: CHIMERA_URL, else where `chimera up` has it under these settings."""
        return self.url if "url" in self.model_fields_set else f"http://{self.http_host}:{self.http_port}"

    @property
    def tenant_quota(self) -> Quota:
        """What a tenant may have whose own quota does not say."""
        return Quota(
            max_agents=self.tenant_max_agents,
            max_ready=self.tenant_max_ready,
            requests_per_s=self.tenant_requests_per_s,
            burst=self.tenant_burst,
        )

    @property
    def brake_rules(self) -> Rules:
        """When a tenant's brake moves."""
        return Rules(
            short_s=self.brake_short_s,
            long_s=self.brake_long_s,
            throttle_burn=self.brake_throttle_burn,
            freeze_burn=self.brake_freeze_burn,
            floor=microusd(self.brake_floor_usd),
            unaccepted=microusd(self.brake_unaccepted_usd),
            calm_s=self.brake_calm_s,
            plan_per_day=0 if self.brake_plan in {"", OF_LIMITS} else microusd(self.brake_plan),
            of_limits=self.brake_plan == OF_LIMITS,
        )

    @property
    def blob_location(self) -> str:
        """Where blobs live, with the default filled in."""
        return self.blob_url or str(self.state_dir / "blobs")


class GivenSettings(Settings):
    """Settings that are handed over: this process's environment adds nothing to them."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given, alone."""
        return (init_settings,)


class SecretFiles(PydanticBaseSettingsSource):
    """Reads ``CHIMERA_<FIELD>_FILE`` for each secret that has no variable of its own."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        variable = f"{PREFIX}{field_name.upper()}_FILE"
        path = os.environ.get(variable)
        if path is None or not is_secret(field):
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").strip(), field_name, False
        except OSError as exc:
            raise ConfigurationError(
                f"{variable} names {path}, which cannot be read ({exc.strerror}): "
                "create the file, or unset the variable"
            ) from exc

    def __call__(self) -> dict[str, Any]:
        found = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in found.items() if value is not None}


def is_secret(field: FieldInfo) -> bool:
    """Whether a field holds a secret, which may come from a file and is never printed."""
    return SecretStr in (field.annotation, *get_args(field.annotation))


NOT_SETTINGS = frozenset({"CHIMERA_FLEET_ID", "CHIMERA_DOOR", "CHIMERA_CELLS"})
"""What a local fleet tells its own processes."""


def strangers() -> dict[str, str]:
    """Variables of the environment that look like settings and are none; each with the nearest, or ""."""
    known = {name.upper() for name in Settings.model_fields}
    known |= {f"{name.upper()}_FILE" for name, field in Settings.model_fields.items() if is_secret(field)}
    found: dict[str, str] = {}
    for variable in sorted(os.environ):
        name = variable.upper().removeprefix(PREFIX)
        if variable.upper() != name and name not in known and variable not in NOT_SETTINGS:
            found[variable] = "".join(PREFIX + near for near in difflib.get_close_matches(name, known, n=1))
    return found


def load(**overrides: Any) -> Settings:
    """Read and validate the environment.

    Args:
        overrides: values that a command's own flags set; they win over the environment.
    Raises:
        ConfigurationError: names every variable that is wrong, all at once.
    """
    try:
        return Settings(**overrides)
    except ValidationError as exc:
        raise ConfigurationError(
            "the environment is wrong; `chimera env` explains every variable:\n"
            + "\n".join(f"  {_sentence(error)}" for error in exc.errors())
        ) from exc


def _sentence(error: Mapping[str, Any]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return message
    if error["type"] == "too_short":  # a secret's: pydantic calls its characters items
        least, given = error["ctx"]["min_length"], error["ctx"]["actual_length"]
        message = f"it has {given} of at least {least} characters"
    name = str(error["loc"][0])
    field = Settings.model_fields.get(name)
    shown = "" if field is None or is_secret(field) else f" (it is {error['input']!r})"
    return f"{PREFIX}{name.upper()}: {message}{shown}"
