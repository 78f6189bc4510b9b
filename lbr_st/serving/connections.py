"""Connections of clients that are slow or wrong, and the end of the server, which cuts no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from lbr_st.serving.replies import ApiError, to_json
from lbr_st.serving.service import Service

HEAD_SECONDS = 30  # in which a client must have sent the head of a request
STALLED_SECONDS = 60  # in which a client must have read some of its answer
LINGER_SECONDS = 1.0  # at the end, in which clients may ask once more on a connection that is open
BACKLOG = 2048


class Connection(H11Protocol):
    """A connection that ends where a client says nothing, reads nothing, or speaks no HTTP."""

    _patience: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for the head of the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what came; while a head is not whole, wait for the rest of it."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._wait()
        elif self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _wait(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(HEAD_SECONDS, self._lose_patience)

    def _lose_patience(self) -> None:
        self._patience = None
        if self.conn.their_state is h11.IDLE:
            self.transport.abort()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: it has read."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        for timer in (self._patience, self._stalled):
            if timer is not None:
                timer.cancel()

    def send_400_response(self, msg: str) -> None:
        """Say in JSON that it was no HTTP."""
        body = to_json(ApiError(400, f"this is no HTTP that can be read: {msg}").body)
        headers = [
            (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]  # fmt: skip
        response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()


class Server(uvicorn.Server):
    """Runs the service until SIGTERM or Ctrl-C, and answers what it has accepted before it ends.

    Args:
        app: The application.
        service: What it is of.
        on_ready: Called with this when requests are answered.
    """

    def __init__(self, app: Any, service: Service, on_ready: Callable[[Server], None]) -> None:
        config = uvicorn.Config(
            app, http=Connection, ws="none", lifespan="off", log_config=None, log_level="error", access_log=False,
            proxy_headers=False, server_header=False, backlog=BACKLOG,
        )  # fmt: skip
        super().__init__(config)
        self.service, self.on_ready = service, on_ready

    async def startup(self, sockets: Any = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self.on_ready(self)

    async def shutdown(self, sockets: Any = None) -> None:
        """Answer what is on its way, and close each connection behind its answer."""
        self.service.stop()
        for server in self.servers:
            server.close()
        clock = asyncio.get_running_loop().time
        end = clock() + LINGER_SECONDS
        while self.server_state.connections and clock() < end:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)
