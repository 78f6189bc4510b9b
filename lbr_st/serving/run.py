"""``lbr serve``: what can be refused is refused before the model is opened, and then it answers until it is stopped."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tqdm.auto import tqdm

from lbr_st.errors import InputError, one_line
from lbr_st.model.opening import check_model_exists, open_sentence_transformer
from lbr_st.serving.app import Service, make_app
from lbr_st.serving.batching import Batcher
from lbr_st.serving.config import ServeConfig
from lbr_st.serving.connections import BACKLOG, Server
from lbr_st.serving.index import FUSED, Index
from lbr_st.serving.metrics import Metrics

logger = logging.getLogger(__name__)


def serve(config: ServeConfig, on_ready: Callable[[Server, str], None]) -> None:
    """Serve a model until the process is told to end, by Ctrl-C or SIGTERM; then answer what was accepted.

    Args:
        config: The settings.
        on_ready: Called with the server and its address when it answers.

    Raises:
        InputError: If the address is taken, or the model or the data cannot be used.
    """
    with contextlib.closing(_listen(config)) as listener:
        check_model_exists(config.model)
        index = None if config.data is None else Index(config.data, config.model, config.on_error)
        model, metrics = open_sentence_transformer(config.model).eval(), Metrics()
        with Batcher(model, config.batch_tokens, metrics) as batcher:
            with contextlib.closing(Service(config, model, batcher, index, metrics)) as service:
                if index is not None:
                    _load(index, service)
                url = _url_of(config.host, listener.getsockname()[1])
                server = Server(make_app(service), service, lambda server: on_ready(server, url))
                with _ending_well():
                    server.run(sockets=[listener])


def _load(index: Index, service: Service) -> None:
    def embed(texts: Any) -> Any:
        with tqdm(total=len(texts), desc="Encoding", unit="texts") as progress:
            return service.embed_documents(texts, progress.update)

    index.load(service.model, embed)
    if (reason := index.missing(FUSED)) is not None:
        logger.warning("search is by vectors alone: %s", reason)


def _listen(config: ServeConfig) -> socket.socket:
    """Return a socket that listens: clients that come before the model is there wait.

    Raises:
        InputError: If the address is none of this machine, or taken.
    """
    where = f"--host {config.host} --port {config.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"{where}: no such address: {one_line(getattr(error, 'strerror', None) or error)}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise InputError(f"{where} cannot be listened at: {error.strerror}; choose another --port") from error
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
