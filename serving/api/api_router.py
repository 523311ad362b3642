"""Routes of an endpoint: a table of paths, functions that answer, errors in OpenAI's shape.

FastAPI and Starlette's router try one pattern after another and enter four layers of exception
handling and exit stacks for a request; a table costs a tenth of that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from serving.api.error_responses import (
    ApiError,
    describe_failure,
    method_not_allowed,
    unknown_address,
)

Handler = Callable[[Request], Awaitable[Response | dict[str, object]]]
SocketHandler = Callable[[WebSocket], Awaitable[None]]
_REST = "/{name}"
"""End of a path whose last part, slashes included, is the parameter ``name``."""


class ApiRouter:
    """ASGI application of the routes that ``get``, ``post`` and ``websocket`` add."""

    def __init__(self) -> None:
        self._routes: dict[str, dict[str, Handler]] = {}
        self._sockets: dict[str, SocketHandler] = {}

    def get(self, path: str) -> Callable[[Handler], Handler]:
        """Answer GET at a path; ``/{name}`` at its end takes all that follows."""
        return self._add(path, "GET")

    def post(self, path: str) -> Callable[[Handler], Handler]:
        """Answer POST at a path."""
        return self._add(path, "POST")

    def websocket(self, path: str) -> Callable[[SocketHandler], SocketHandler]:
        """Serve WebSockets at a path."""

        def add(handler: SocketHandler) -> SocketHandler:
            self._sockets[path] = handler
            return handler

        return add

    def _add(self, path: str, method: str) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            self._routes.setdefault(path, {})[method] = handler
            return handler

        return add

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._serve_socket(scope, receive, send)
            return
        has_begun = False

        async def watch(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            answer = await self._find_handler(scope)(Request(scope, receive))
            response = JSONResponse(answer) if isinstance(answer, dict) else answer
            await response(scope, receive, watch)
        except Exception as error:
            failure = describe_failure(error)
            if has_begun:  # the client sees that its answer is not whole
                raise
            await failure.response()(scope, receive, send)

    def _find_handler(self, scope: Scope) -> Handler:
        """The function that answers a request.

        Raises:
            ApiError: 404 or 405.
        """
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        methods = self._routes.get(path)
        if methods is None:
            methods = self._find_by_prefix(path, scope)
        if methods is None:
            raise unknown_address(scope["method"], scope["path"])
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        handler = methods.get(method)
        if handler is None:
            allowed = [*methods, *(["HEAD"] if "GET" in methods else [])]
            raise method_not_allowed(scope["method"], scope["path"], allowed)
        return handler

    def _find_by_prefix(self, path: str, scope: Scope) -> dict[str, Handler] | None:
        for template, methods in self._routes.items():
            prefix = template.removesuffix(_REST)
            rest = path.removeprefix(f"{prefix}/")
            if prefix != template and rest and rest != path:
                scope["path_params"] = {"name": rest}
                return methods
        return None

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        handler = self._sockets.get(path)
        socket = WebSocket(scope, receive, send)
        if handler is None:
            await refuse_socket(socket, unknown_address("WebSocket", scope["path"]))
            return
        await handler(socket)


def check_reading(scope: Scope) -> None:
    """Refuse all methods but GET and HEAD, whose body the server leaves out.

    Raises:
        ApiError: 405.
    """
    if scope["method"] not in ("GET", "HEAD"):
        raise method_not_allowed(scope["method"], scope["path"], ["GET", "HEAD"])


async def refuse_socket(socket: WebSocket, refusal: ApiError) -> None:
    """Answer a WebSocket's handshake by a response."""
    await socket.send_denial_response(refusal.response())
