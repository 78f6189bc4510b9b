"""What the server does for each path."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from lbr_st.data.cleaning import clean
from lbr_st.errors import InputError, foreseen, one_line
from lbr_st.serving import metrics as named
from lbr_st.serving.batching import Batcher, Vectors
from lbr_st.serving.config import MIB, ServeConfig
from lbr_st.serving.embeddings import Reader, answer, check_names, require_tokens
from lbr_st.serving.index import BM25, BY, DENSE
from lbr_st.serving.metrics import Metrics
from lbr_st.serving.passages import Change
from lbr_st.serving.replies import ApiError, Reply, to_json
from lbr_st.serving.sides import Side
from lbr_st.serving.words import Speaker, read_texts

BODY_SECONDS = 30  # in which a client must have sent its request
READERS = 2  # threads that read requests and spell answers
MOST_HITS, MOST_DIGITS = 100, 9  # int() refuses thousands of digits
PATHS = ("/", "/v1/embeddings", "/v1/models", "/health", "/metrics", "/search", "/words", "/reload")
OF_SEARCH = ("q", "k", "by", "side")  # what /search is asked
AFTER, BEFORE = "after", "before"  # the model that is served, and the one that it is compared with
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class Service:
    """What the server does; the threads that do the work, so that the event loop never waits for any.

    Args:
        config: The settings.
        side: The model that is served, and what it searches.
        before: Another model that searches the same, if any.
        metrics: Counts what is done.
    """

    def __init__(self, config: ServeConfig, side: Side, before: Side | None, metrics: Metrics) -> None:
        self.config, self.side, self.before, self.metrics = config, side, before, metrics
        self.index, self.batcher = side.index, side.batcher
        self.read = Reader(config, side.model, side.batcher.lengths)
        self.speaker = Speaker(config.model)
        self.page_file = Path(__file__).with_name("page.html").read_bytes()
        self.is_stopping = False
        self.taken = 0
        self._readers = ThreadPoolExecutor(READERS, "reader")
        self._searcher = ThreadPoolExecutor(1, "searcher")
        self._loader = ThreadPoolExecutor(1, "loader")
        self._speaker = ThreadPoolExecutor(1, "speaker")
        self._loading = threading.Lock()
        self._started = int(time.time())

    def stop(self) -> None:
        """Take what comes now as the last."""
        self.is_stopping = True
        for side in self._sides():
            side.is_stopping = True

    def close(self) -> None:
        """End the threads."""
        for pool in (self._readers, self._searcher, self._loader, self._speaker):
            pool.shutdown()

    def _sides(self) -> list[Side]:
        return [self.side] if self.before is None else [self.side, self.before]

    async def page(self, request: Request) -> Response:
        """Answer ``GET /``: the page, which asks this server alone."""
        return Response(self.page_file, media_type="text/html", headers=PAGE_HEADERS)

    async def embeddings(self, request: Request) -> Response:
        """Answer ``POST /v1/embeddings``."""
        body = await _body_of(request, self.config.max_body_mib)
        with self._place():
            asked = await _in(self._readers, lambda: self.read(body))
            vectors = await _vectors(self.batcher, request, asked.texts, asked.role, asked.lengths)
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
        about = {
            "status": status, "model": self.side.name, "passages": len(self.index or ()),
            "words": self.speaker.can_speak, "before": self.before and self.before.name,
        }  # fmt: skip
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
        check_names([name for name, _ in request.query_params.multi_items()], OF_SEARCH)
        side = self._side(request.query_params.get("side", AFTER))
        index = side.index
        assert index is not None
        question = clean(request.query_params.get("q", ""), keep_html=True, one_line=True)
        by, k = request.query_params.get("by", DENSE), request.query_params.get("k", "10")
        if not question:
            raise ApiError(400, "q is missing or empty: /search?q=your+question", param="q")
        if by not in BY:
            raise ApiError(400, f"by must be {', '.join(BY[:-1])} or {BY[-1]}", param="by")
        if not (k.isascii() and k.isdecimal() and len(k) <= MOST_DIGITS and 1 <= int(k) <= MOST_HITS):
            raise ApiError(400, f"k must be a whole number from 1 to {MOST_HITS}", param="k")
        with self._place():
            vector = None
            if by != BM25:
                lengths = await _in(self._readers, lambda: side.batcher.lengths([question], "query"))
                if side.needs_tokens:
                    require_tokens("q", [question], lengths)
                [vector] = await _vectors(side.batcher, request, [question], "query", lengths)
            try:
                hits = await _in(self._searcher, lambda: index.search(question, vector, int(k), by))
            except InputError as error:
                raise ApiError(400, str(error), param="by") from error
            shown = [{name: value for name, value in hit._asdict().items() if value is not None} for hit in hits]
            return Reply(to_json({"query": question, "by": by, "passages": len(index), "hits": shown}))

    async def words(self, request: Request) -> Response:
        """Answer ``POST /words``: what the vectors of texts say, in words."""
        body = await _body_of(request, self.config.max_body_mib)
        with self._place():
            texts, role = await _in(
                self._readers, lambda: read_texts(body, self.config.max_tokens, self.batcher.lengths)
            )
            try:
                found = await _in(self._speaker, lambda: self.speaker(texts, role))
            except InputError as error:
                raise ApiError(400, str(error), code="no_words") from error
            return Reply(to_json({"words": found}))

    async def reload(self, request: Request) -> Response:
        """Answer ``POST /reload``."""
        self._side(AFTER)
        if not self._loading.acquire(blocking=False):
            raise ApiError(409, "the data are being read already", code="reloading")
        try:
            [change, *_] = await _in(self._loader, self._load)
        except Exception as error:
            if (line := foreseen(error)) is None:
                raise
            raise ApiError(422, f"the data cannot be read, and are as they were: {line}", code="data") from error
        finally:
            self._loading.release()
        return Reply(to_json(change._asdict()))

    def _load(self) -> list[Change]:
        """Read the data again for both models, or for none."""
        with contextlib.ExitStack() as stack:
            for side in self._sides():
                if side.index is not None:
                    stack.enter_context(side.index.as_it_was())
            return [side.load() for side in self._sides()]

    def _side(self, name: str) -> Side:
        """Return the model that searches, by its side."""
        if self.index is None:
            raise ApiError(404, "there is nothing to search: start lbr serve with --data", code="no_data")
        if name not in (AFTER, BEFORE):
            raise ApiError(400, f"side must be {AFTER} or {BEFORE}", param="side")
        if name == BEFORE and self.before is None:
            raise ApiError(404, "there is no other model: start lbr serve with --compare", param="side")
        return self.before if name == BEFORE and self.before is not None else self.side

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


async def _vectors(
    batcher: Batcher, request: Request, texts: Sequence[str], role: str, lengths: Sequence[int]
) -> Vectors:
    """Wait for vectors, as long as the client waits for them."""
    vectors: asyncio.Future[Vectors] = asyncio.wrap_future(batcher.submit(texts, role, lengths))
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
