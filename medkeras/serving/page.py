"""The page for people: drop an image, read the answer; it needs no network but the server itself."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from starlette import concurrency, requests, responses, routing

from medkeras import errors
from medkeras.serving import status

_FILES = {"page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
# Nothing may be loaded from elsewhere, nothing may frame the page, no image may leave it but to this server.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_LAST_FRAME = 10**6


class Answering(Protocol):
    """Who answers what the page asks."""

    def models(self) -> Sequence[Mapping[str, Any]]:
        """Returns what there is to say of each model."""

    def answer(self, model: str, content: bytes, frame: int | None = None) -> Mapping[str, Any]:
        """Returns the answer for a file; raises `RefusalError` or `StatusError`."""


def routes(answering: Answering) -> list[routing.Route]:
    """Returns the routes of the page.

    | route | answer |
    |---|---|
    | `GET /`, `GET /page/page.css`, `GET /page/page.js` | the page |
    | `GET /page/models` | the models that it can ask |
    | `POST /page/answer?model=NAME&frame=N`, the file as the body | the answer, or `error`: why the file gets none |
    """

    async def models(_: requests.Request) -> responses.Response:
        return _json(200, await concurrency.run_in_threadpool(answering.models))

    async def answer(request: requests.Request) -> responses.Response:
        frame = request.query_params.get("frame", "")
        chosen = min(int(frame), _LAST_FRAME) if frame.isascii() and frame.isdigit() and len(frame) < 20 else None
        content = await request.body()
        try:
            name = request.query_params.get("model", "")
            return _json(200, await concurrency.run_in_threadpool(answering.answer, name, content, chosen))
        except errors.RefusalError as refusal:
            return _json(200, {"error": str(refusal)})
        except status.StatusError as error:
            return _json(error.code.http, {"error": error.message})

    return [
        routing.Route("/", _file("page.html"), methods=["GET"]),
        *(routing.Route(f"/page/{name}", _file(name), methods=["GET"]) for name in _FILES if name != "page.html"),
        routing.Route("/page/models", models, methods=["GET"]),
        routing.Route("/page/answer", answer, methods=["POST"]),
    ]


def _file(name: str) -> Callable[[requests.Request], Awaitable[responses.Response]]:
    content = (importlib.resources.files("medkeras.serving") / "page_files" / name).read_bytes()

    async def give(_: requests.Request) -> responses.Response:
        return responses.Response(content, media_type=_FILES[name], headers=_HEADERS)

    return give


def _json(code: int, value: Any) -> responses.Response:
    return responses.Response(
        json.dumps(value, allow_nan=False), status_code=code, media_type="application/json", headers=_HEADERS
    )
