"""HTTP as the dialects see it: requests, responses, routes and WebSockets as small values.

A dialect is written once against these and served by two faces: aiohttp (`aiohttp_face.py`) and ASGI
(`stack.asgi`). A face reads the request line and the headers, hands over an `HttpRequest`, and writes the
`HttpResponse`; a body is read when a dialect asks for it, and never beyond its bound.

Left out: what no dialect needs, such as cookies, chunks of a response, and files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Generic, Protocol, TypeAlias, TypeVar
from urllib.parse import parse_qsl

from multidict import CIMultiDict

from stack.core.errors import ParseError, RemoteError
from stack.core.values import read_json_object

T = TypeVar("T")
_PLACE = re.compile(r"\{(\w+)(?::([^{}]+))?\}")


class RequestRefused(RemoteError):
    """An HTTP request that is refused: the status and the text of the answer."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers
        self.code: str | None = None
        self.param: str | None = None


class AppKey(Generic[T]):
    """Names something that an `Application` keeps, and its type."""

    def __init__(self, name: str, kind: type[T]) -> None:
        self.name, self.kind = name, kind

    def __repr__(self) -> str:
        return f"<AppKey {self.name}>"


class BodyTooLarge(Exception):
    """A face found more bytes in a body than it was told to read."""


@dataclass(slots=True, eq=False)
class HttpRequest:
    """One HTTP request. `path` begins with "/" below the place at which the application is mounted."""

    app: Application
    method: str
    path: str
    headers: CIMultiDict[str]
    query_string: str = ""
    remote: str | None = None
    """The address of the TCP connection; None if the face does not know it."""
    scheme: str = "http"
    body: Callable[[int], Awaitable[bytes]] | None = None
    """Reads the body up to so many bytes; raises `BodyTooLarge`. None: there is none."""
    upgrades: bool = False
    """The client asks for a WebSocket."""
    state: Mapping[str, Any] = field(default_factory=dict)
    """What an application around this one has noted of the request, for the program."""
    match_info: Mapping[str, str] = field(default_factory=dict)

    @property
    def query(self) -> dict[str, str]:
        """The fields of the query; of one that comes twice, the first."""
        return dict(reversed(parse_qsl(self.query_string, keep_blank_values=True)))

    @property
    def host(self) -> str:
        """The host and port that the client asked."""
        return self.headers.get("Host", "")

    @property
    def content_type(self) -> str:
        """The media type of the body, without parameters."""
        return self.headers.get("Content-Type", "application/octet-stream").partition(";")[0].strip().lower()

    def clone(self, *, remote: str | None, scheme: str) -> HttpRequest:
        """Return the request as it came from another address or by another scheme: what a proxy says of it."""
        return replace(self, remote=remote, scheme=scheme)

    async def read(self) -> bytes:
        """Return the whole body; raises `RequestRefused` (413) for one that is larger than `app.max_body`."""
        if self.body is None:
            return b""
        try:
            return await self.body(self.app.max_body)
        except BodyTooLarge:
            raise RequestRefused(413, f"the body is larger than {self.app.max_body} bytes") from None


class HttpResponse:
    """One HTTP response, whole."""

    def __init__(
        self,
        *,
        status: int = 200,
        text: str | None = None,
        body: bytes = b"",
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.headers: CIMultiDict[str] = CIMultiDict(headers or {})
        self.body = body if text is None else text.encode()
        if content_type is None and text is not None:
            content_type = "text/plain"
        if content_type is not None and "Content-Type" not in self.headers:
            charset = "" if text is None else "; charset=utf-8"
            self.headers["Content-Type"] = content_type + charset


def json_response(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Return a response with this value as JSON."""
    return HttpResponse(status=status, text=json.dumps(value), content_type="application/json", headers=headers)


class WebSocket(Protocol):
    """A WebSocket that is up."""

    async def receive(self) -> str | bytes | None:
        """Return the next message, text or bytes; None once it is closed."""
        ...

    async def send(self, text: str) -> None:
        """Send a text; raises `ConnectionError` once it is closed."""
        ...

    async def close(self) -> None:
        """Close it."""
        ...


@dataclass(frozen=True, slots=True)
class SocketSession:
    """The answer to a request for a WebSocket: `run` speaks on it until either side closes it."""

    run: Callable[[WebSocket], Awaitable[None]]
    protocols: tuple[str, ...] = ()
    max_message: int = 256 * 1024
    """Bytes of a message; a larger one closes it."""

    def choose_protocol(self, offered: Iterable[str]) -> str | None:
        """Return the first of the client's protocols that is spoken here; None if none is."""
        return next((name for name in offered if name in self.protocols), None)


Answer: TypeAlias = "HttpResponse | SocketSession"
Handler: TypeAlias = Callable[[HttpRequest], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path, of which `{name}` is one segment and `{name:a|b}` one of these."""

    method: str
    pattern: re.Pattern[str]
    handler: Handler

    @classmethod
    def make(cls, method: str, path: str, handler: Handler) -> Route:
        """Return the route of a path as it is written in a dialect."""
        parts, at = [], 0
        for place in _PLACE.finditer(path):
            parts += [re.escape(path[at : place.start()]), f"(?P<{place[1]}>{place[2] or '[^/]+'})"]
            at = place.end()
        return cls(method, re.compile("".join(parts) + re.escape(path[at:])), handler)


class RouteTable:
    """The routes of a dialect, collected by decorators: `@routes.post("/whip")`."""

    def __init__(self) -> None:
        self._routes: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def _collect(self, method: str, path: str) -> Callable[[Handler], Handler]:
        def collect(handler: Handler) -> Handler:
            self._routes.append(Route.make(method, path, handler))
            return handler

        return collect

    def get(self, path: str) -> Callable[[Handler], Handler]:
        """Take GET, and HEAD."""
        return self._collect("GET", path)

    def post(self, path: str) -> Callable[[Handler], Handler]:
        """Take POST."""
        return self._collect("POST", path)

    def patch(self, path: str) -> Callable[[Handler], Handler]:
        """Take PATCH."""
        return self._collect("PATCH", path)

    def delete(self, path: str) -> Callable[[Handler], Handler]:
        """Take DELETE."""
        return self._collect("DELETE", path)

    def options(self, path: str) -> Callable[[Handler], Handler]:
        """Take OPTIONS that is no preflight."""
        return self._collect("OPTIONS", path)


class Application:
    """The dialects of one server: their routes, and what they keep (`app[KEY]`).

    `around(request, handler)` is called with each request and the handler that was found for it, or one that
    refuses it (404, 405).
    """

    def __init__(
        self, *, max_body: int, around: Callable[[HttpRequest, Handler], Awaitable[Answer]] | None = None
    ) -> None:
        self.max_body = max_body
        self._around = around
        self._routes: list[Route] = []
        self._kept: dict[AppKey[Any], Any] = {}

    def __getitem__(self, key: AppKey[T]) -> T:
        kept: T = self._kept[key]
        return kept

    def __setitem__(self, key: AppKey[T], value: T) -> None:
        self._kept[key] = value

    def add_routes(self, routes: Iterable[Route]) -> None:
        """Take the requests of a dialect as well."""
        self._routes += routes

    async def handle(self, request: HttpRequest) -> Answer:
        """Return the answer to a request; what a handler raises is raised."""
        handler = self._find(request)
        return await (handler(request) if self._around is None else self._around(request, handler))

    def _find(self, request: HttpRequest) -> Handler:
        method = "GET" if request.method == "HEAD" else request.method
        allowed: set[str] = set()
        for route in self._routes:
            match = route.pattern.fullmatch(request.path)
            if match is None:
                continue
            if route.method == method:
                request.match_info = match.groupdict()
                return route.handler
            allowed |= {route.method, "HEAD"} if route.method == "GET" else {route.method}
        return _not_allowed(allowed) if allowed else _not_found


async def _not_found(_: HttpRequest) -> Answer:
    raise RequestRefused(404, HTTPStatus.NOT_FOUND.phrase)


def _not_allowed(allowed: set[str]) -> Handler:
    async def refuse(request: HttpRequest) -> Answer:
        headers = {"Allow": ",".join(sorted(allowed))}
        if request.method == "OPTIONS":
            return HttpResponse(status=204, headers=headers)
        raise RequestRefused(405, HTTPStatus.METHOD_NOT_ALLOWED.phrase, **headers)

    return refuse


async def read_text(request: HttpRequest) -> str:
    """Return the body as text; raises `RequestRefused` for one that is too large or not UTF-8."""
    try:
        return (await request.read()).decode()
    except UnicodeDecodeError as error:
        raise RequestRefused(400, "the body is not UTF-8") from error


async def read_json(request: HttpRequest) -> dict[str, Any]:
    """Return the body as a JSON object; raises `RequestRefused` for anything else."""
    return parse_json(await read_text(request), request.app.max_body)


def parse_json(text: str, most: int) -> dict[str, Any]:
    """Return a JSON object of up to `most` characters; raises `RequestRefused` for anything else."""
    try:
        return read_json_object(text, most)
    except ParseError as error:
        raise RequestRefused(400, f"the body is no JSON object: {error}") from error


def page_below(name: str, query: str) -> str:
    """Return the page's place for a client that asks for the place above it, `name`, without the slash.

    The page asks for everything relative to itself. `name` and `query` as they stand in a URL.
    """
    return f"./{name}/" + (f"?{query}" if query else "")


def location_below(request: HttpRequest, name: str) -> str:
    """Return the `Location` of the resource `name` below the collection that was asked.

    A reference relative to the request's URL (RFC 9110 §10.2.2, RFC 3986 §5.2.3), because a proxy in front may
    have cut off a prefix of the path that only the client knows.
    """
    return f"{request.path.rpartition('/')[2]}/{name}"
