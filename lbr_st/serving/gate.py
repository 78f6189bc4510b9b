"""What every request passes: who may ask, and what is counted."""

from __future__ import annotations

import hmac
import time

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lbr_st.serving.metrics import REQUESTS
from lbr_st.serving.replies import GONE, ApiError
from lbr_st.serving.service import PATHS, Service

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")
VERSIONS = ("1.0", "1.1")  # of HTTP
OPEN_PATHS = ("/", "/health")  # that need no key: they hold nothing of anyone


class Gate:
    """What every request passes: who may ask, and what is counted.

    Args:
        app: What comes behind it.
        service: The service.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        start, status = time.monotonic(), GONE
        request = Request(scope, receive)

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self.service.is_stopping:
                    message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        try:
            error = self._refusal(request)
            await (self.app if error is None else error.reply())(scope, receive, counted)
        except Exception:  # Starlette answers with 500, outside of this
            status = 500 if status == GONE else status
            raise
        finally:
            path = scope["path"]
            path = path if path == "/" else next((each for each in PATHS[1:] if path.startswith(each)), "other")
            self.service.metrics.count(REQUESTS, path=path, status=str(status))
            self.service.metrics.observe(time.monotonic() - start)

    def _refusal(self, request: Request) -> ApiError | None:
        config = self.service.config
        if (version := request.scope["http_version"]) not in VERSIONS:  # h11 takes any two digits
            return ApiError(400, f"this is no HTTP that can be read: its version is {version}, not 1.1")
        if config.api_key is not None:
            kind, _, key = request.headers.get("authorization", "").partition(" ")
            own = config.api_key.encode("utf-8", "surrogateescape")
            is_right = hmac.compare_digest(key.encode("latin-1").strip(), own.strip())
            if request.scope["path"] not in OPEN_PATHS and not (is_right and kind.lower() == "bearer"):
                return ApiError(
                    401,
                    "the key is missing or wrong: send the header Authorization: Bearer KEY",
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            return None
        host = request.headers.get("host", "")
        if config.is_local and not config.no_auth and _name_of(host) not in (*LOCAL_NAMES, config.host):
            # A page of another site, whose name was made to mean this machine.
            return ApiError(403, "this machine answers itself alone: --api-key or --no-auth lets others ask")
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return ApiError(403, "a page of another site may not ask")
        return None


def _name_of(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
