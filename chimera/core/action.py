"""A proposed action: a side effect an agent asks for, carried out only after an accepting verdict.

It is data. An agent proposes it with its result; the step that accepts the result puts it into the
outbox; a courier of the hub carries it out, under a key that is the same for every try. What may be
sent where is the operator's list (`Allowed`), checked when it is proposed and again when it is sent.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, field_validator

MAX_ACTIONS = 100
"""Of one result, whatever CHIMERA_MAX_ACTIONS says."""
MAX_URL_CHARS = 2_000
MAX_HEADERS = 32
MAX_HEADER_CHARS = 4_000
MAX_RETRY_AFTER_S = 3_600.0
"""A receiver may put us off for this long at once, no longer."""
DEFAULT_PORTS = {"http": 80, "https": 443}

OURS = frozenset(
    {
        *("idempotency-key", "user-agent", "host", "accept-encoding", "content-length", "transfer-encoding"),
        *("connection", "keep-alive", "proxy-connection", "upgrade", "te", "trailer", "expect"),
    }
)
"""Headers that the courier sets, or that belong to the connection."""

_HOST = r"(?P<host>[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
# Stricter than any client's reading, so that what is checked here is what is sent there: no user,
# no space, no backslash, ASCII only, no fragment.
_URL = re.compile(rf"(?P<scheme>https?)://{_HOST}(?:[/?][!\x24-\x5b\x5d-\x7e]*)?", re.IGNORECASE)
_ENTRY = re.compile(_HOST, re.IGNORECASE)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?|")


class Address(NamedTuple):
    """Where a request goes: the host in lower case, the port filled in."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """As an entry of CHIMERA_ACTION_HOSTS names it."""
        return self.host if self.port == DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"


class HttpAction(BaseModel):
    """One HTTP request, such as a webhook. A 2xx answer means that the receiver took it.

    It is stored, and shown to whoever reviews the result: put no secret into it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["http"] = "http"
    method: Literal["POST", "PUT", "PATCH", "DELETE"] = "POST"
    url: str = Field(max_length=MAX_URL_CHARS, description="http or https; redirects are not followed.")
    headers: dict[str, str] = Field(default_factory=dict, max_length=MAX_HEADERS)
    body: JsonValue = Field(None, description="Sent as JSON; null sends no body.")

    @field_validator("url")
    @classmethod
    def _can_be_sent(cls, url: str) -> str:
        address_of(url)
        return url

    @field_validator("headers")
    @classmethod
    def _are_the_agents_to_set(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot name a header: use letters, digits and -")
            if name.lower() in OURS or name.lower().startswith("proxy-"):
                raise ValueError(f"the header {name} is set by Chimera, or by the connection: leave it out")
            if len(value) > MAX_HEADER_CHARS or not _HEADER_VALUE.fullmatch(value):
                raise ValueError(
                    f"the header {name} must be one line of printable ASCII, at most "
                    f"{MAX_HEADER_CHARS:,} characters: no line breaks, no space at its ends"
                )
        if len({name.lower() for name in headers}) < len(headers):
            raise ValueError("a header stands twice: names differ in more than their case")
        return headers

    @property
    def address(self) -> Address:
        """Where it goes."""
        return address_of(self.url)

    @property
    def said(self) -> dict[str, Any]:
        """What it tells its receiver: the parts in which an agent can say something."""
        return {"url": unescaped(self.url), "headers": self.headers, "body": self.body}

    @property
    def words(self) -> str:
        """What it does, on one line."""
        return f"{self.method} {self.url}"


def unescaped(url: str) -> str:
    """A URL as one reads it: `%20`, `+`, and what parts its words, as spaces."""
    octets = re.sub(
        rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), url.encode("ascii", "replace")
    )
    return re.sub(r"[+/?&=_-]", " ", octets.decode("utf-8", "replace"))


Action: TypeAlias = HttpAction
"""Every kind of action, told apart by `kind`. With a second kind: a union with `kind` as discriminator."""

_action: TypeAdapter[Action] = TypeAdapter(Action)


def parse_action(text: str) -> Action:
    """An action as it was stored. ValueError when it is none (any more)."""
    return _action.validate_json(text)


def parse_actions(text: str) -> tuple[Action, ...]:
    """The actions that travel with a result: a JSON list of texts. ValueError when they are none."""
    if not text:
        return ()
    actions = json.loads(text)
    if not isinstance(actions, list) or len(actions) > MAX_ACTIONS:
        raise ValueError(f"at most {MAX_ACTIONS} actions are expected, as a JSON list of texts")
    return tuple(map(parse_action, actions))


def action_id(task_id: str, index: int) -> str:
    """``m1.0/2``: the third action of task ``m1.0``."""
    return f"{task_id}/{index}"


def idempotency_key(tenant: str, action: str) -> str:
    """``<tenant>/<task_id>/<index>``: what the receiver gets with every try of an action."""
    return f"{tenant}/{action}"


def address_of(url: str) -> Address:
    """Where a URL leads.

    Raises:
        ValueError: it cannot be sent to; says why.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(
            f"{url[:200]!r} is no address to send to: write http://host/path or https://host:port/path, "
            "in ASCII, without user, spaces, backslashes or fragment"
        )
    scheme = found["scheme"].lower()
    return Address(scheme, found["host"].lower(), _port(found["port"]) or DEFAULT_PORTS[scheme])


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if not 1 <= int(text) <= 65_535:
        raise ValueError(f"{text} is no port: 1 to 65535")
    return int(text)


@dataclass(frozen=True, slots=True)
class Allowed:
    """The hosts that actions may reach: CHIMERA_ACTION_HOSTS.

    An entry without a port stands for the scheme's own (80, 443); any other port is named.
    """

    entries: frozenset[tuple[str, int | None]] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Allowed:
        """``"hooks.example.com, localhost:9000"``. ValueError names a wrong entry."""
        entries = set()
        for entry in filter(None, (part.strip() for part in text.split(","))):
            found = _ENTRY.fullmatch(entry)
            if found is None:
                raise ValueError(f"{entry!r} is no host: write hooks.example.com or localhost:9000")
            entries.add((found["host"].lower(), _port(found["port"])))
        return cls(frozenset(entries))

    def refusal(self, action: Action) -> str:
        """Why it may not be sent, with the setting to change; "" when it may."""
        to = action.address
        return "" if self.reaches(to) else f"actions may not reach {to}: add {to} to CHIMERA_ACTION_HOSTS"

    def reaches(self, to: Address) -> bool:
        """Whether an address is of one of these hosts."""
        default = to.port == DEFAULT_PORTS[to.scheme]
        return (to.host, to.port) in self.entries or (default and (to.host, None) in self.entries)


class ActionStatus(StrEnum):
    """Where an accepted result's action stands."""

    QUEUED = "QUEUED"
    """Waits to be carried out, or is being."""
    DONE = "DONE"
    """The receiver took it. Final."""
    FAILED = "FAILED"
    """Given up, with the last answer. Final unless retried."""


A = ActionStatus

ACTION_TRANSITIONS: dict[tuple[ActionStatus, ActionStatus], str] = {
    (A.QUEUED, A.DONE): "answered 2xx",
    (A.QUEUED, A.FAILED): "refused for good, not allowed (any more), or its tries are used up",
    (A.FAILED, A.QUEUED): "retried by its owner: a fresh set of tries",
}
"""(from, to) → why an action makes that step. A step that is not here is impossible."""

ACTION_FINAL = frozenset({A.DONE, A.FAILED})


class Outcome(StrEnum):
    """What follows one try."""

    DONE = "done"
    RETRY = "retry"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one try.

    Args:
        status: the HTTP status; None when no answer came.
        detail: the beginning of the answer's body, or what went wrong.
        retry_after_s: when the receiver wants it again; 0 when it did not say.
    """

    status: int | None
    detail: str = ""
    retry_after_s: float = 0.0

    def __str__(self) -> str:
        text = "no answer" if self.status is None else str(self.status)
        return f"{text}: {self.detail}" if self.detail else text


TRY_AGAIN = frozenset({408, 425, 429})
"""Answers below 500 that mean: not now."""


def outcome(answer: Answer, *, tries: int, most: int) -> Outcome:
    """What follows, after `tries` tries (this one included) of at most `most`."""
    if answer.status is not None and 200 <= answer.status < 300:
        return Outcome.DONE
    passing = answer.status is None or answer.status >= 500 or answer.status in TRY_AGAIN
    return Outcome.RETRY if passing and tries < most else Outcome.FAILED
