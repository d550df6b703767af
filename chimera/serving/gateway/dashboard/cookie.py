"""The cookie that names a session, and where requests that change something may come from."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import Request, Response

from chimera.errors import Forbidden
from chimera.serving.gateway.auth import hub_of
from chimera.serving.gateway.dashboard.headers import PREFIX
from chimera.store.sessions import LIVES_S

NOT_OURS = "this did not come from a page of this dashboard: open it, and try again there"


@dataclass(frozen=True, slots=True)
class Cookie:
    """How the cookie is called and set. Over https its name says that no other site or port set it."""

    secure: bool

    @property
    def name(self) -> str:
        """Its name."""
        return "__Host-chimera" if self.secure else "chimera"

    def give(self, response: Response, session_id: str) -> None:
        """Let a browser have a session; scripts never see it, other sites never send it."""
        response.set_cookie(self.name, session_id, max_age=LIVES_S, **self._bounds())  # type: ignore[arg-type]  # (the bounds are of several types)

    def take(self, response: Response) -> None:
        """Let a browser forget it."""
        response.delete_cookie(self.name, **self._bounds())  # type: ignore[arg-type]  # (the bounds are of several types)

    def _bounds(self) -> dict[str, object]:
        # The API's own paths never get it: there a key is sent, by whoever means to.
        path = "/" if self.secure else PREFIX
        return {"path": path, "secure": self.secure, "httponly": True, "samesite": "strict"}


def cookie_of(request: Request) -> Cookie:
    """The cookie of this hub: it is for https alone where the hub is reached so."""
    public = hub_of(request).base.settings.address
    return Cookie(request.url.scheme == "https" or public.startswith("https:"))


def require_ours(request: Request) -> None:
    """Let only those requests pass that a page of ours made, as browsers say.

    Raises:
        Forbidden: it is another site's, or nothing says whose.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is None and origin is None:
        raise Forbidden(NOT_OURS)
    if site not in {None, "same-origin"}:
        raise Forbidden(NOT_OURS)
    if origin is not None:
        public = urlsplit(hub_of(request).base.settings.address)
        named = urlsplit(origin)
        at_host = named.netloc == request.headers.get("host")
        if named.scheme not in {"http", "https"} or not (at_host or named[:2] == public[:2]):
            raise Forbidden(NOT_OURS)
