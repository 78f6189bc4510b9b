"""The paths of the server, and what every request passes."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from sentence_transformers import SentenceTransformer
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lbr_st.data.cleaning import clean
from lbr_st.errors import InputError, one_line
from lbr_st.model.lengths import describe_longer
from lbr_st.serving import metrics as named
from lbr_st.serving.batching import TEXTS_AT_ONCE, Batcher, Vectors
from lbr_st.serving.config import MIB, ServeConfig
from lbr_st.serving.embeddings import Reader, answer
from lbr_st.serving.index import BM25, BY, DENSE, Index
from lbr_st.serving.metrics import Metrics
from lbr_st.serving.replies import ApiError, Reply, to_json

logger = logging.getLogger(__name__)

BODY_SECONDS = 30  # in which a client must have sent its request
READERS = 2  # threads that read requests and spell answers
MOST_HITS = 100
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")
GONE = 499  # status of a request whose client did not wait for the answer
PATHS = ("/v1/embeddings", "/v1/models", "/health", "/metrics", "/search", "/reload")


class Service:
    """What the server does; the threads that do the work, so that the event loop never waits for any.

    Args:
        config: The settings.
        model: The model.
        batcher: Runs it.
        index: What is searched, if anything.
        metrics: Counts what is done.
    """

    def __init__(
        self, config: ServeConfig, model: SentenceTransformer, batcher: Batcher, index: Index | None, metrics: Metrics
    ) -> None:
        self.config, self.model, self.batcher, self.index, self.metrics = config, model, batcher, index, metrics
        self.read = Reader(config, model, batcher.lengths)
        self.is_stopping = False
        self.taken = 0
        self._readers = ThreadPoolExecutor(READERS, "reader")
        self._searcher = ThreadPoolExecutor(1, "searcher")
        self._loader = ThreadPoolExecutor(1, "loader")
        self._loading = threading.Lock()
        self._started = int(time.time())

    def close(self) -> None:
        """End the threads."""
        for pool in (self._readers, self._searcher, self._loader):
            pool.shutdown()

    def embed_documents(self, texts: Sequence[str], on_texts: Callable[[int], Any] = lambda number: None) -> Vectors:
        """Return the vectors of a corpus, some texts at a time: those of clients go in between.

        Args:
            texts: The texts.
            on_texts: Called with the number of texts that were encoded, again and again.

        Raises:
            ApiError: If the server stops meanwhile.
        """
        found: Any = None
        longer, most = 0, self.batcher.limits["document"].most
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))  # neighbours are as long
        for start in range(0, len(order), TEXTS_AT_ONCE):
            if self.is_stopping:
                raise ApiError(503, "the server is stopping", code="stopping")
            these = order[start : start + TEXTS_AT_ONCE]
            some = [texts[at] for at in these]
            lengths = self.batcher.lengths(some, "document")
            longer += sum(length > most for length in lengths)
            vectors = self.batcher.submit(some, "document", lengths).result()
            if found is None:
                found = np.empty((len(texts), vectors.shape[1]), np.float32)
            found[these] = vectors
            on_texts(len(these))
        if longer:
            logger.warning("%s", describe_longer(longer, len(texts), most))
        return found

    async def embeddings(self, request: Request) -> Response:
        """Answer ``POST /v1/embeddings``."""
        body = await _body_of(request, self.config.max_body_mib)
        with self._place():
            asked = await _in(self._readers, lambda: self.read(body))
            vectors = await self._vectors(request, asked.texts, asked.role, asked.lengths)
            most = self.batcher.limits[asked.role].most
            self.metrics.count(named.CUT, sum(length > most for length in asked.lengths))
            tokens = int(sum(min(length, most) for length in asked.lengths))
            return Reply(await _in(self._readers, lambda: answer(asked, vectors, tokens)))

    async def models(self, request: Request) -> Response:
        """Answer ``GET /v1/models`` and ``GET /v1/models/NAME``."""
        found = [
            {"id": name, "object": "model", "created": self._started, "owned_by": "lbr-st",
             "dimensions": self.read.width, "input_type": role or "document"}
            for name, role in self.read.roles.items()
        ]  # fmt: skip
        if (name := request.path_params.get("name")) is None:
            return Reply(to_json({"object": "list", "data": found}))
        one = next((each for each in found if each["id"] == name), None)
        if one is None:
            raise ApiError(404, f"the models here are {' and '.join(self.read.roles)}", code="model_not_found")
        return Reply(to_json(one))

    async def health(self, request: Request) -> Response:
        """Answer ``GET /health``: 200 while requests are taken, 503 when the server stops."""
        status = "stopping" if self.is_stopping else "ok"
        about = {"status": status, "model": self.config.served_name, "passages": len(self.index or ())}
        return Reply(to_json(about), 503 if self.is_stopping else 200)

    async def show_metrics(self, request: Request) -> Response:
        """Answer ``GET /metrics``."""
        gauges = {
            "lbr_requests_waiting": ("Requests that are worked on or wait.", self.taken),
            "lbr_tokens_waiting": ("Tokens that are not encoded yet.", self.batcher.waiting_tokens),
            "lbr_passages": ("Passages that are searched.", len(self.index or ())),
        }
        return Response(self.metrics.text(gauges), headers={"Content-Type": named.CONTENT_TYPE})

    async def search(self, request: Request) -> Response:
        """Answer ``GET /search``."""
        index = self._index()
        question = clean(request.query_params.get("q", ""), keep_html=True, one_line=True)
        by, k = request.query_params.get("by", DENSE), request.query_params.get("k", "10")
        if not question:
            raise ApiError(400, "q is missing or empty: /search?q=your+question", param="q")
        if by not in BY:
            raise ApiError(400, f"by must be {', '.join(BY[:-1])} or {BY[-1]}", param="by")
        if not (k.isascii() and k.isdecimal() and 1 <= int(k[:9]) <= MOST_HITS):
            raise ApiError(400, f"k must be a whole number from 1 to {MOST_HITS}", param="k")
        if (reason := index.missing(by)) is not None:
            raise ApiError(400, reason, param="by")
        with self._place():
            vector = None
            if by != BM25:
                lengths = await _in(self._readers, lambda: self.batcher.lengths([question], "query"))
                [vector] = await self._vectors(request, [question], "query", lengths)
            hits = await _in(self._searcher, lambda: index.search(question, vector, int(k), by))
            shown = [{name: value for name, value in hit._asdict().items() if value is not None} for hit in hits]
            return Reply(to_json({"query": question, "by": by, "passages": len(index), "hits": shown}))

    async def reload(self, request: Request) -> Response:
        """Answer ``POST /reload``."""
        index = self._index()
        if not self._loading.acquire(blocking=False):
            raise ApiError(409, "the data are being read already", code="reloading")
        try:
            change = await _in(self._loader, lambda: index.load(self.model, self.embed_documents))
        except InputError as error:
            raise ApiError(422, f"the data cannot be read, and are as they were: {error}", code="data") from error
        finally:
            self._loading.release()
        return Reply(to_json(change._asdict()))

    def _index(self) -> Index:
        if self.index is None:
            raise ApiError(404, "there is nothing to search: start lbr serve with --data", code="no_data")
        return self.index

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """Let a request in, if there are not too many."""
        if self.taken >= self.config.max_queue:
            raise ApiError(
                429,
                f"{self.taken} requests are waiting, which is the most; try again later",
                code="rate_limit_exceeded",
                headers={"Retry-After": str(self.batcher.seconds_to_wait())},
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    async def _vectors(self, request: Request, texts: Sequence[str], role: str, lengths: Sequence[int]) -> Vectors:
        """Wait for vectors, as long as the client waits for them."""
        vectors: asyncio.Future[Vectors] = asyncio.wrap_future(self.batcher.submit(texts, role, lengths))
        gone: asyncio.Future[None] = asyncio.ensure_future(_until_gone(request))
        either: set[asyncio.Future[Any]] = {vectors, gone}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            is_there = vectors.done()
            vectors.cancel()
        if not is_there:
            raise ClientDisconnect
        try:
            return vectors.result()
        except Exception as error:  # whatever the model raises
            raise ApiError(500, f"the model does not encode it: {one_line(error)}", code="model") from error


async def _in(pool: ThreadPoolExecutor, work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(pool, work)


async def _body_of(request: Request, most_mib: int) -> bytes:
    """Read the body of a request, if it is not too large and comes in time."""
    too_large = ApiError(
        413, f"the body is larger than {most_mib} MiB; send fewer texts at once", code="body_too_large"
    )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most_mib * MIB:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > most_mib * MIB:
                    raise too_large
    except TimeoutError:
        raise ApiError(
            408, f"the body did not come within {BODY_SECONDS} seconds", headers={"Connection": "close"}
        ) from None
    return bytes(body)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


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
        finally:
            path = next((each for each in PATHS if request.url.path.startswith(each)), "other")
            self.service.metrics.count(named.REQUESTS, path=path, status=str(status))
            self.service.metrics.observe(time.monotonic() - start)

    def _refusal(self, request: Request) -> ApiError | None:
        config = self.service.config
        if config.api_key is not None:
            kind, _, key = request.headers.get("authorization", "").partition(" ")
            is_right = hmac.compare_digest(
                key.strip().encode("latin-1"), config.api_key.encode("utf-8", "surrogateescape")
            )
            if request.url.path != "/health" and not (is_right and kind.lower() == "bearer"):
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
        if origin is not None and urlsplit(origin).netloc != host:
            return ApiError(403, "a page of another site may not ask")
        return None


def _name_of(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host


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
        Route("/v1/embeddings", service.embeddings, methods=["POST"]),
        Route("/v1/models", service.models),
        Route("/v1/models/{name:path}", service.models),
        Route("/health", service.health),
        Route("/metrics", service.show_metrics),
        Route("/search", service.search),
        Route("/reload", service.reload, methods=["POST"]),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Gate, service=service)],
        exception_handlers=handlers,
    )
    app.router.redirect_slashes = False
    return app
