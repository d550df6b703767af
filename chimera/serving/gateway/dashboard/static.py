"""Style, scripts and libraries of the pages. They tell nothing of anybody, so no key is needed."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from chimera.dashboard.assets import assets
from chimera.errors import NotFound

router = APIRouter(prefix="/dashboard/static", include_in_schema=False)

FOR_GOOD = "public, max-age=31536000, immutable"


@router.get("/{version}/{path:path}")
async def asset(version: str, path: str, request: Request) -> Response:
    """A file, to be kept for good: its address changes with its content. One of another version is 404."""
    ours = assets()
    found = ours.by_path.get(path)
    if found is None or version != ours.version:
        raise NotFound("there is no such file in this version: load the page again")
    headers = {"Cache-Control": FOR_GOOD, "ETag": f'"{found.tag}"', "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.packed, 200, {**headers, "Content-Encoding": "gzip"}, found.media_type)
    return Response(found.body, 200, headers, found.media_type)
