"""The shards of `lbr_st.use.encode` on a Ray cluster: Ray Data, with a pool of actors that each hold the model.

The folder of the output must be one that all machines see.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
import ray.data
import torch
from tqdm.auto import tqdm

from lbr_st.use.encode import Encoder, Job, rows_of


class Actor:
    """Encodes the shards that it is given.

    Args:
        folder: Of the output.
        job: What decides the embeddings.
        ranges: See `Encoder`.
        threads: To compute with.
    """

    def __init__(self, folder: str, job: Job, ranges: Any, threads: int) -> None:
        torch.set_num_threads(threads)
        self.encoder = Encoder(folder, job, ranges)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Encode shards, and return their numbers."""
        for shard in batch["shard"]:
            self.encoder.encode(int(shard))
        return batch


def engine(
    args: argparse.Namespace, folder: Path, job: Job, manifest: dict[str, Any]
) -> Callable[[list[int], tqdm[Any]], Iterator[int]]:
    """Return what encodes shards on the cluster that the arguments name, or on one of this machine."""

    def encode(shards: list[int], progress: tqdm[Any]) -> Iterator[int]:
        address = args.ray_address
        ray.init(address=address, include_dashboard=None if address else False, logging_level=logging.WARNING)
        ray.data.DataContext.get_current().enable_progress_bars = False
        try:
            dataset = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards))
            encoded = dataset.map_batches(
                Actor,
                fn_constructor_args=(str(folder.resolve()), job, manifest["ranges"], max(1, int(args.cpus_per_actor))),
                batch_size=1,
                num_cpus=args.cpus_per_actor,
                num_gpus=args.gpus_per_actor,
                compute=ray.data.ActorPoolStrategy(size=min(args.actors, len(shards))),
            )
            for row in encoded.iter_rows():
                progress.update(rows_of(row["shard"], job, manifest))
                yield row["shard"]
        finally:
            ray.shutdown()

    return encode
