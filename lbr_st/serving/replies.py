"""What is answered: JSON, and every error in the form of OpenAI's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

GONE = 499  # status of a request whose client did not wait for the answer
PIECE = 2**16  # bytes that are sent at once: of a client that does not read no more than this waits in memory twice


class ApiError(Exception):
    """An error that the client is told.

    Args:
        status: HTTP status.
        message: What was wrong and what to do, for the person who reads it.
        param: Field of the request that it is about.
        code: Short name that programs know it by.
        headers: Headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers

    @property
    def body(self) -> dict[str, Any]:
        """The error in OpenAI's form."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def reply(self) -> Response:
        """Return the answer."""
        return Reply(to_json(self.body), self.status, self.headers)


class Reply(Response):
    """An answer in JSON, which is sent in pieces, so that a slow client keeps the others in no buffer."""

    media_type = "application/json"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(self.body), PIECE):
            await send({"type": "http.response.body", "body": self.body[start : start + PIECE], "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def to_json(value: Any) -> bytes:
    """Return JSON in ASCII, which spells whatever a text may have."""
    return json.dumps(value).encode("ascii")
