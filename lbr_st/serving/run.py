"""``lbr serve``: what can be refused is refused before the model is opened, and then it answers until it is stopped."""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator

from sentence_transformers import SentenceTransformer
from tqdm.auto import tqdm

from lbr_st.errors import InputError, one_line
from lbr_st.model.named import check_embedder_exists
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.serving.app import make_app
from lbr_st.serving.batching import Batcher
from lbr_st.serving.config import ServeConfig, name_of
from lbr_st.serving.connections import BACKLOG, Server
from lbr_st.serving.index import FUSED, Index
from lbr_st.serving.metrics import Metrics
from lbr_st.serving.service import Service
from lbr_st.serving.sides import Side
from lbr_st.use.dtypes import refuse_slow
from lbr_st.use.passages import is_encoded

logger = logging.getLogger(__name__)


def serve(config: ServeConfig, on_ready: Callable[[Server, str], None]) -> None:
    """Serve a model until the process is told to end, by Ctrl-C or SIGTERM; then answer what was accepted.

    Args:
        config: The settings.
        on_ready: Called with the server and its address when it answers.

    Raises:
        InputError: If the address is taken, or the model or the data cannot be used.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(contextlib.closing(_listen(config)))
        config.computing.check(config.model)
        if config.compare is not None:
            check_embedder_exists(config.compare, "--compare")
            if is_encoded(config.data or ""):
                raise InputError(f"--compare {config.compare}: {config.data} has vectors of one model; give the text")
        index = None if config.data is None else Index(config.data, config.model, config.on_error)
        metrics = Metrics()
        model = config.computing.open(config.model)
        refuse_slow(model, config.dtype)
        side = _side(stack, config, model, config.served_name, index, metrics)
        before = None
        if config.compare is not None and config.data is not None:
            name, same = name_of(config.compare), Index(config.data, config.compare, config.on_error)
            other = open_sentence_transformer(config.compare, "--compare").eval()
            before = _side(stack, config, other, name, same, Metrics(), side)
        service = stack.enter_context(contextlib.closing(Service(config, side, before, metrics)))
        url = _url_of(config.host, listener.getsockname()[1])
        server = Server(make_app(service), service, lambda server: on_ready(server, url))
        with _ending_well():
            server.run(sockets=[listener])


def _side(
    stack: contextlib.ExitStack,
    config: ServeConfig,
    model: SentenceTransformer,
    name: str,
    index: Index | None,
    metrics: Metrics,
    beside: Side | None = None,
) -> Side:
    """Begin to run a model, and read what it searches; the same passages as another one beside it."""
    batcher = stack.enter_context(Batcher(model, config.batch_tokens, metrics))
    side = Side(name, model, batcher, index, None if beside is None else beside.model)
    if index is not None:
        with tqdm(desc="Encoding", unit="texts") as progress:

            def show(done: int, of: int) -> None:
                progress.total = of
                progress.update(done - progress.n)

            side.load(show)
        if (reason := index.missing(FUSED)) is not None:
            logger.warning("search is by vectors alone: %s", reason)
    return side


def _listen(config: ServeConfig) -> socket.socket:
    """Return a socket that listens: clients that come before the model is there wait.

    Raises:
        InputError: If the address is none of this machine, or taken.
    """
    where = f"--host {config.host} --port {config.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
    except (OSError, ValueError) as error:  # ValueError: of a name that is none
        raise InputError(f"{where}: no such address: {one_line(getattr(error, 'strerror', None) or error)}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        other = "--host: this machine has no such address" if error.errno == errno.EADDRNOTAVAIL else "--port"
        raise InputError(f"{where} cannot be listened at: {error.strerror}; choose another {other}") from error
    return listener


def _url_of(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


@contextlib.contextmanager
def _ending_well() -> Iterator[None]:
    """Let SIGTERM be a good end: uvicorn stops at it, and raises it once more when it has stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
