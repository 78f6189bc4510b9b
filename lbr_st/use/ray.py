"""Shards on a Ray cluster: Ray Data, with a pool of actors that each hold the model.

The folder of the shards must be one that all machines see.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import ray
import ray.data
import torch


class Encodes(Protocol):
    """What an actor holds: it writes the embeddings of a shard."""

    def encode(self, shard: int) -> None:
        """Encode a shard by its number."""


class Actor:
    """Encodes the shards that it is given.

    Args:
        open_encoder: Opens what encodes a shard, with its model.
        threads: Number of threads to compute with.
    """

    def __init__(self, open_encoder: Callable[[], Encodes], threads: int) -> None:
        torch.set_num_threads(threads)
        self.encoder = open_encoder()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Encode shards, and return their numbers."""
        for shard in batch["shard"]:
            self.encoder.encode(int(shard))
        return batch


def encode_shards(
    shards: Sequence[int],
    open_encoder: Callable[[], Encodes],
    *,
    address: str | None,
    actors: int,
    cpus_per_actor: float,
    gpus_per_actor: float,
) -> Iterator[int]:
    """Encode shards on a cluster, and yield the number of each that is done.

    Args:
        shards: Numbers of the shards.
        open_encoder: Opens what encodes a shard, in the process of an actor.
        address: Address of the cluster; None for one on this machine.
        actors: Number of processes.
        cpus_per_actor: Number of processors of each.
        gpus_per_actor: Number of GPUs of each.
    """
    ray.init(address=address, include_dashboard=None if address else False, logging_level=logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        dataset = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards))
        encoded = dataset.map_batches(
            Actor,
            fn_constructor_args=(open_encoder, max(1, int(cpus_per_actor))),
            batch_size=1,
            num_cpus=cpus_per_actor,
            num_gpus=gpus_per_actor,
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(shards))),
        )
        for row in encoded.iter_rows():
            yield row["shard"]
    finally:
        ray.shutdown()
