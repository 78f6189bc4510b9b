"""The paths of the server, and its errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from lbr_st.serving.gate import Gate
from lbr_st.serving.replies import GONE, ApiError
from lbr_st.serving.service import PATHS, Service


def make_app(service: Service) -> Starlette:
    """Return the application."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return error.reply()

    async def no_such(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        said = str(error.detail)
        if error.status_code == 404:
            said = f"there is no such path; there are {', '.join(PATHS)}"
        elif error.status_code == 405:
            said = f"{request.method} is not for this path, which takes {(error.headers or {}).get('Allow')}"
        return ApiError(error.status_code, said, headers=error.headers).reply()

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=GONE)  # nobody reads it

    async def failed(request: Request, error: Exception) -> Response:
        return ApiError(500, "this is a bug of lbr-st: the log of the server has more").reply()

    handlers: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
        ApiError: refused, HTTPException: no_such, ClientDisconnect: gone, Exception: failed,
    }  # fmt: skip
    routes = [
        Route("/", service.page),
        Route("/v1/embeddings", service.embeddings, methods=["POST"]),
        Route("/v1/models", service.models),
        Route("/v1/models/{name:path}", service.models),
        Route("/health", service.health),
        Route("/metrics", service.show_metrics),
        Route("/search", service.search),
        Route("/words", service.words, methods=["POST"]),
        Route("/reload", service.reload, methods=["POST"]),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Gate, service=service)],
        exception_handlers=handlers,
    )
    app.router.redirect_slashes = False
    return app
