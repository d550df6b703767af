"""Sinks of the flight recorder on the wire: how far each is, and what it could not deliver."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from chimera.core.views import View


class DeadLetter(View):
    """An event that the MCP server refused each time. The event itself is in the recorder."""

    id: str = Field(description="The event's: ``TENANT/EPOCH/SEQ``.")
    kind: str
    mission_id: str = ""
    task_id: str = ""
    at: datetime = Field(description="When it happened.")
    position: str = Field(description="Right behind it, in the tenant's recorder.")
    reason: str = Field(description="What the server said last.")
    tries: int = Field(description="How often it was sent.")
    dead_at: datetime = Field(description="When it was put aside.")
    retrying: bool = Field(False, description="It is tried again soon: somebody said so.")


class SinkView(View):
    """How far one sink has come with one tenant's recorder."""

    tenant: str
    sink: str = Field(description="archive, mcp.")
    seq: int = Field(description="The last event it has; 0: none yet.")
    newest: int = Field(description="The last event there is.")
    behind: int = Field(description="Events it does not have yet; those that are filtered out count too.")
    dead: int = Field(0, description="Dead letters that wait for somebody's word.")
    held: bool = Field(False, description="It goes on when some of the dead letters are gone.")
    trouble: str = Field("", description="Why it does not go on; empty: it does.")


class DeadAnswer(View):
    """What a word on dead letters did."""

    count: int = Field(description="Dead letters it was said of.")
