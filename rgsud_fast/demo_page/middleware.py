"""The filter before gradio: it lets through the few requests that the page makes, and refuses every other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .uploads import MOST_BYTES

MOST_JSON = 2**16  # bytes of a request that is no upload
ENVELOPE = 2**14  # bytes that a form adds to the file in it
HOSTS = ("127.0.0.1", "localhost")  # at any port, as an SSH tunnel may bring them to another
UPLOAD, FILE = "/gradio_api/upload", "/gradio_api/file="
EXACT = {
    "GET": {"/", "/gallery", "/theme.css", "/favicon.ico", "/manifest.json", "/gradio_api/queue/data"}
    | {"/gradio_api/upload_progress", "/gradio_api/startup-events", "/gradio_api/theme.css"},
    "POST": {UPLOAD, "/gradio_api/queue/join", "/gradio_api/cancel"},
}
BELOW = {"GET": ("/assets/", "/static/", FILE, "/gradio_api/heartbeat/")}
HEADERS = {  # nothing is fetched from anywhere else; gradio's HTML part evaluates templates
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval';"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:;"
    " base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
}


class RequestFilter:
    """An ASGI application around another.

    Refused are: another Host than ours (a foreign name that resolves to 127.0.0.1), a page of another origin, a route
    that the page does not use (gradio has some that fetch addresses or run code), a body without a length or above
    the limit, and any path, to be served or named in a call, that is not of a file in `folder`.

    Args:
        app: what is guarded.
        folder: the temporary folder; resolved.
    """

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self.app, self.folder = app, folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        refusal = self._refusal(scope)
        if refusal is None and scope["method"] == "POST" and scope["path"] != UPLOAD:
            refusal, receive = await self._check_call(receive)

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await (refusal or self.app)(scope, receive, send_safely)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        """The answer to a request that is not let through by its method, address or headers."""
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        host = headers.get("host", "")
        if host.partition(":")[0] not in HOSTS or headers.get("origin", f"http://{host}") != f"http://{host}":
            return PlainTextResponse("open the address that rgsud-fast demo printed", 403)
        if path not in EXACT.get(method, ()) and not path.startswith(BELOW.get(method, ())):
            return PlainTextResponse("not found", 404)
        if path.startswith(FILE) and not self._is_ours(path.removeprefix(FILE)):
            return PlainTextResponse("not found", 404)
        if method == "POST":
            length = headers.get("content-length", "")
            if not length.isdecimal() or "transfer-encoding" in headers:  # which would count in place of the length
                return PlainTextResponse("the length is missing", 411)
            if int(length) > (MOST_BYTES + ENVELOPE if path == UPLOAD else MOST_JSON):
                return PlainTextResponse(f"at most {MOST_BYTES // 2**20} MiB are taken", 413)
        return None

    async def _check_call(self, receive: Receive) -> tuple[PlainTextResponse | None, Receive]:
        """The answer to a call that is not let through; and the call, written anew so that none reads it otherwise."""
        try:
            document = json.loads(await _body(receive))
        except (ValueError, RecursionError):
            return PlainTextResponse("no JSON", 400), receive
        if not all(self._is_ours(path) for path in _paths(document)):
            return PlainTextResponse("no such upload", 403), receive
        return None, _replay(json.dumps(document).encode(), receive)

    def _is_ours(self, path: Any) -> bool:
        """Whether it names a file in the folder, absolutely and without detours."""
        try:
            return isinstance(path, str) and (p := Path(path)).is_relative_to(self.folder) and p.resolve(True) == p
        except (OSError, ValueError):
            return False


def _paths(document: Any) -> Iterator[Any]:
    """Every value under "path" in a JSON document, however deep."""
    left = [document]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if "path" in value:
                yield value["path"]
            left += value.values()
        elif isinstance(value, list):
            left += value


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
