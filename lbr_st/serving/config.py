"""The settings of ``lbr serve``."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from lbr_st.data.drops import ON_ERROR
from lbr_st.errors import InputError
from lbr_st.use.runtimes import AUTO, Computing

OF_QUERIES = "-query"  # what the name of the model ends with, for clients that cannot say input_type
MIB = 2**20
LEAST_1 = ("batch_tokens", "max_body_mib", "max_texts", "max_tokens", "max_queue")


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """The settings of ``lbr serve``.

    Attributes:
        model: Directory or Hub id of a sentence-transformers model.
        data: What is searched: a prepared set, a file of documents, a folder of text, or the output of ``lbr encode``;
            without it there are embeddings alone.
        compare: Another model, which searches the same, to be compared with.
        host: Address to listen at.
        port: Port to listen at; 0 for any that is free.
        name: Name of the model for clients; default is that of its directory.
        api_key: Key that every request must have.
        no_auth: Whether requests from other machines need no key.
        on_error: ``stop`` at the first row of the data that cannot be used, or ``skip`` such rows.
        batch_tokens: Number of tokens that are encoded at once; default depends on the device.
        max_body_mib: Largest body of a request, in MiB.
        max_texts: Most texts of a request.
        max_tokens: Most tokens of all texts of a request.
        max_queue: Most requests that are worked on or wait.
        runtime: What runs the model, see `lbr_st.use.runtimes.Computing`; torch runs the one that it is compared with.
        dtype: Type of the numbers that the model computes in.
        dimensions: Number of first dimensions that its vectors keep.

    Raises:
        InputError: If a number is too small, a choice is not there, or another machine could ask without a key though
            nobody said so.
    """

    model: str
    data: str | None = None
    compare: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    name: str | None = None
    api_key: str | None = None
    no_auth: bool = False
    on_error: str = "stop"
    batch_tokens: int | None = None
    max_body_mib: int = 8
    max_texts: int = 2048
    max_tokens: int = 300_000
    max_queue: int = 256
    runtime: str | None = None
    dtype: str | None = None
    dimensions: int | None = None

    def __post_init__(self) -> None:
        for name in LEAST_1:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} must be a whole number of at least 1, got {value}")
        if not 0 <= self.port < 2**16:
            raise InputError(f"--port must be from 0 to 65535, got {self.port}")
        if self.on_error not in ON_ERROR:
            raise InputError(f"--on-error must be one of {', '.join(ON_ERROR)}, got {self.on_error}")
        if self.api_key is not None and (self.no_auth or not self.api_key.strip()):
            raise InputError("--api-key is empty" if not self.no_auth else "--api-key and --no-auth: give one of them")
        if self.compare is not None and self.data is None:
            raise InputError("--compare compares what two models find: it goes with --data")
        if self.dtype == AUTO:
            raise InputError(f"--dtype {AUTO} is for lbr encode and search, which try it with texts: name a type")
        _ = self.computing  # which refuses what cannot be
        if not self.is_local and self.api_key is None and not self.no_auth:
            raise InputError(
                f"--host {self.host} is open to other machines: give --api-key KEY, or --no-auth to let anyone ask"
            )

    @property
    def computing(self) -> Computing:
        """How the model is run."""
        return Computing(self.runtime, self.dtype, self.dimensions)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can ask."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def served_name(self) -> str:
        """What clients call the model; as `OF_QUERIES` says, for its queries."""
        return self.name or name_of(self.model)


def name_of(model: str) -> str:
    """Return the name of a model: that of its directory, or its id."""
    return Path(model).resolve().name if Path(model).exists() else model
