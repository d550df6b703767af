"""Chimera as an MCP server, in the official SDK's terms. Imported with the first request to `/mcp`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import mcp_types as types
import orjson
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from chimera.serving.gateway.auth import Caller
from chimera.serving.gateway.envelope import HEADER
from chimera.serving.gateway.inside import asked, part
from chimera.serving.gateway.mcptools import BY_NAME, TOOLS, Problem, Tool
from chimera.serving.gateway.problems import place, request_id
from chimera.version import __version__

INSTRUCTIONS = (
    "Chimera runs fleets of AI agents within a budget; each result is judged before it counts. Submit a "
    "mission, "
    "watch it, read its results. `why` says what a task waits for. Money is in micro-dollars, instants "
    "are UTC."
)
RESOURCE = "chimera://missions/"
MOST_BYTES = 1 << 25
"""A route's answer, as a tool passes it on. Reviews of large results can be more."""
Context = ServerRequestContext[Any, Request]


class Teller:
    """Asks the app in the name of whoever made the request; see `chimera.serving.gateway.mcptools.Ask`."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        assert context.request is not None
        self._app, self._context = app, context
        asked_with = context.request.headers
        self._headers = {
            "Authorization": asked_with.get("authorization", ""),
            HEADER: request_id(context.request.scope),
        }

    async def json(
        self, method: str, path: str, *, body: Any = None, key: str | None = None, **params: Any
    ) -> Any:
        """The answer. Raises Problem."""
        headers = self._headers if key is None else {**self._headers, "Idempotency-Key": key}
        async with asked(self._app, method, path, headers=headers, params=params, body=body) as answer:
            body = await answer.body(MOST_BYTES)
        if len(body) > MOST_BYTES:
            detail = (
                f"the answer has more than {MOST_BYTES:,} bytes: ask for less of it, with a smaller `limit`"
            )
            raise Problem({"title": "Too much for one answer", "detail": detail})
        found = orjson.loads(body)
        if answer.status >= 400:
            raise Problem(found)
        return found

    @asynccontextmanager
    async def lines(
        self, path: str, *, within_s: float | None = None, **params: Any
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The answer's lines as they come, until the time is up. Raises Problem."""
        async with asked(self._app, "GET", path, headers=self._headers, params=params) as answer:
            if answer.status >= 400:
                raise Problem(orjson.loads(await answer.body()))
            yield _until(answer.lines(), within_s)

    async def progress(self, done: float, total: float, message: str) -> None:
        """Tell whoever called how far it is, if they want to know."""
        await self._context.session.report_progress(done, total, message)


async def _until(lines: AsyncIterator[bytes], within_s: float | None) -> AsyncIterator[bytes]:
    until = None if within_s is None else asyncio.get_running_loop().time() + within_s
    while True:
        try:
            async with asyncio.timeout_at(until):
                line = await anext(lines)
        except (StopAsyncIteration, TimeoutError):
            return
        yield line


def shown(tool: Tool) -> types.Tool:
    """A tool as clients see it."""
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.takes.model_json_schema(),
        output_schema=tool.gives.model_json_schema(mode="serialization"),
        annotations=types.ToolAnnotations(
            title=tool.title,
            read_only_hint=tool.reads,
            destructive_hint=tool.ends,
            idempotent_hint=tool.idempotent,
            open_world_hint=False,
        ),
    )


SHOWN = {tool.name: shown(tool) for tool in TOOLS}


def server_of(app: ASGIApp) -> Server[Any]:
    """The server; it asks the app, which is the whole API."""

    async def list_tools(context: Context, _: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[SHOWN[tool.name] for tool in TOOLS if _may(context, tool)])

    async def call_tool(context: Context, asked_for: types.CallToolRequestParams) -> types.CallToolResult:
        tool = BY_NAME.get(asked_for.name)
        if tool is None:
            raise MCPError(
                types.INVALID_PARAMS, f"there is no tool {asked_for.name[:80]!r}: tools/list has them"
            )
        try:
            given = tool.takes.model_validate(asked_for.arguments or {})
            found = await tool.call(Teller(app, context), given)
        except ValidationError as exc:
            wrong = [f"{place(one['loc'], {}) or 'arguments'}: {one['msg']}" for one in exc.errors()[:50]]
            return _refused("the arguments cannot be taken; nothing was changed", wrong)
        except Problem as exc:
            document = exc.document
            said = f"{document.get('title', '')}: {document.get('detail', '')}"
            return _refused(said, [str(one) for one in document.get("problems", ())], document)
        return types.CallToolResult(content=[_text(found)], structured_content=found)

    async def list_resources(context: Context, _: Any) -> types.ListResourcesResult:
        try:
            page = await Teller(app, context).json("GET", "/v1/missions", limit=20)
        except Problem:
            return types.ListResourcesResult(resources=[])
        return types.ListResourcesResult(
            resources=[
                types.Resource(
                    uri=f"{RESOURCE}{one['mission_id']}",
                    name=one["mission_id"],
                    title=one["goal"][:100],
                    mime_type="application/json",
                )
                for one in page["items"]
            ]
        )

    async def list_templates(_: Context, __: Any) -> types.ListResourceTemplatesResult:
        template = types.ResourceTemplate(
            uri_template=f"{RESOURCE}{{mission_id}}",
            name="mission",
            title="A mission as it stands now",
            mime_type="application/json",
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def read_resource(
        context: Context, asked_for: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        uri = str(asked_for.uri)
        mission_id = unquote(uri.removeprefix(RESOURCE))
        if not uri.startswith(RESOURCE) or not mission_id:
            raise MCPError(
                types.INVALID_PARAMS, f"there is no resource {uri[:120]!r}: write {RESOURCE}MISSION"
            )
        try:
            found = await Teller(app, context).json("GET", f"/v1/missions/{part(mission_id)}")
        except Problem as exc:
            raise MCPError(types.INVALID_PARAMS, str(exc.document.get("detail", ""))) from exc
        text = types.TextResourceContents(
            uri=uri, mime_type="application/json", text=orjson.dumps(found).decode()
        )
        return types.ReadResourceResult(contents=[text])

    return Server(
        "chimera",
        version=__version__,
        title="Chimera",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )


async def serve(server: Server[Any], scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request, and let nothing of it live on: there are no sessions."""
    manager = StreamableHTTPSessionManager(server, stateless=True, max_request_body_size=1 << 62)
    async with manager.run():
        await manager.handle_request(scope, receive, send)


def _may(context: Context, tool: Tool) -> bool:
    assert context.request is not None
    caller: Caller = context.request.state.caller
    return tool.scope in caller.principal.scopes and (tool.fleet or not caller.principal.of_fleet)


def _text(found: Any) -> types.TextContent:
    return types.TextContent(type="text", text=orjson.dumps(found).decode())


def _refused(said: str, lines: list[str], document: Any = None) -> types.CallToolResult:
    text = "\n".join([said, *lines])
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)], structured_content=document, is_error=True
    )
