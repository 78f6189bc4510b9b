"""Encoding a corpus: does it survive being killed, does its memory stay, and do two actors of Ray do twice as much?

    python benchmarks/encode_corpus.py

Protocol:

- 20,000 passages of the code domain: functions of the packages installed. The model has the shape of the nano
  backbone (4 layers, 256 wide) with weights as they are drawn, 64 tokens, one bottleneck token; it computes in bf16.
- ``kills_survived``: `lbr encode` (shards of 500 rows) is killed five times, each time 1 to 4 seconds after it wrote a
  file, drawn with a fixed seed, and started again. A kill is survived if it came before the end and every file that was
  whole is there as it was; and none is, if the files in the end are not those of a straight run, byte for byte.
- ``memory_growth_ratio``: most memory of the process with 20,000 rows over that with 5,000, median of three repeats.
- ``ray_efficiency_2_actors``: rows a second of two actors of one thread over twice those of one, from the twentieth
  file that is whole to the last of 80 (shards of 250 rows), median of three interleaved repeats: Ray takes seconds to
  start, and one actor before the other. (From the first file on, while the second actor was starting, it was 0.78 and
  0.87.)
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import results
import torch
from flags import program_parser
from nano import nano_config, train_tokenizer
from transformers import Qwen2ForCausalLM

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.data.installed_packages import installed_pairs
from lbr_st.errors import InputError
from lbr_st.files import file_sha256, write_jsonl

PROGRAM = "encode_corpus"
ROWS, FEWER_ROWS, SHARD_ROWS, RAY_SHARD_ROWS = 20_000, 5_000, 500, 250
KILLS, REPEATS, STARTED = 5, 3, 20
WAITS = (1.0, 4.0)  # seconds of encoding before a kill
# Prints the most memory that the process ever had, in KiB.
RUN = (
    "import resource, sys; from lbr_st.cli.main import main; main(sys.argv[1:]); print(resource.getrusage(0).ru_maxrss)"
)


def make_corpus(work: Path) -> Path:
    """Write the passages and return the folder of the model."""
    passages = [pair["document"] for pair in itertools.islice(installed_pairs(), ROWS)]
    if len(passages) < ROWS:
        raise InputError(f"only {len(passages)} documented functions are installed, {ROWS} are needed")
    for name, number in (("all", ROWS), ("fewer", FEWER_ROWS)):
        rows = ({"id": str(n), "text": text} for n, text in enumerate(passages[:number]))
        write_jsonl(work / f"{name}.jsonl", rows)
    tokenizer = train_tokenizer(passages[:2000], 8192)
    torch.manual_seed(0)
    Qwen2ForCausalLM(nano_config(len(tokenizer), 256, 4, tokenizer.eos_token_id)).save_pretrained(work / "backbone")
    tokenizer.save_pretrained(work / "backbone")
    model = lbr_st.from_backbone(str(work / "backbone"), num_bottleneck_tokens=1, max_seq_length=64)
    lbr_st.save(model, work / "model")
    return work / "model"


def arguments(work: Path, output: str, data: str = "all", shard_rows: int | None = None) -> list[str]:
    """Return the arguments of `lbr encode`; files have `SHARD_ROWS` unless said."""
    paths = ["--model", str(work / "model"), "--data", str(work / f"{data}.jsonl"), "--output-dir", str(work / output)]
    return ["encode", *paths, "--shard-rows", str(shard_rows or SHARD_ROWS)]


def run(argv: list[str]) -> int:
    """Run `lbr` in a process of its own; return the most memory it had, in KiB."""
    done = subprocess.run([sys.executable, "-c", RUN, *argv], check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1])


def files_of(folder: Path) -> dict[str, str]:
    """Return the whole files of embeddings with their hashes."""
    return {file.name: file_sha256(file) for file in folder.glob("part-*.parquet")}


def kills(work: Path) -> dict[str, Any]:
    """Kill a run again and again."""
    run(arguments(work, "straight"))
    expected = files_of(work / "straight")
    drawn, survived, argv = random.Random(0), 0, arguments(work, "killed")
    folder = work / "killed"
    for _ in range(KILLS):
        before = files_of(folder)
        process = subprocess.Popen([sys.executable, "-c", RUN, *argv], stdout=subprocess.DEVNULL)
        while process.poll() is None and len(files_of(folder)) == len(before):
            time.sleep(0.05)
        time.sleep(drawn.uniform(*WAITS))
        process.send_signal(signal.SIGKILL)
        was_killed = process.wait() == -signal.SIGKILL
        after = files_of(folder)
        survived += was_killed and before.items() <= after.items() and len(after) < len(expected)
    run(argv)
    return {"survived": survived if files_of(folder) == expected else 0, "files": len(expected)}


def memory(work: Path, data: str, repeat: int) -> dict[str, Any]:
    """Measure the most memory of a run, in MiB."""
    return {"peak_memory_mib": run(arguments(work, f"memory-{data}-{repeat}", data)) / 1024}


def throughput(work: Path, actors: int, repeat: int) -> dict[str, Any]:
    """Measure the rows a second of a number of actors."""
    output = f"ray-{actors}-{repeat}"
    run([*arguments(work, output, shard_rows=RAY_SHARD_ROWS), "--engine", "ray", "--actors", str(actors)])
    done = sorted(file.stat().st_mtime for file in (work / output).glob("part-*.parquet"))
    counted = done[STARTED - 1 :]
    return {
        "rows_per_second": (len(counted) - 1) * RAY_SHARD_ROWS / (counted[-1] - counted[0]),
        "seconds_of_files": [round(each - done[0], 2) for each in done],
    }


def main(argv: list[str] | None = None) -> None:
    """Measure what is missing and write the summary."""
    program_parser(__doc__).parse_args(argv)
    results.conditions()
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_corpus(work)

        def measured(name: str, repeat: int, measure: Any) -> dict[str, Any]:
            if not results.is_measured(PROGRAM, name, repeat, {"rows": ROWS}):
                results.write_arm(PROGRAM, name, repeat, {**measure(), "settings": {"rows": ROWS}})
            return results.read_arm(PROGRAM, name, repeat)

        files = [measured("kills", 0, partial(kills, work))]
        figures: dict[str, float] = {"kills_survived": files[0]["survived"]}
        ratios: dict[str, list[float]] = {"memory_growth_ratio": [], "ray_efficiency_2_actors": []}
        for repeat in range(REPEATS):
            fewer = measured("memory_fewer", repeat, partial(memory, work, "fewer", repeat))
            more = measured("memory_all", repeat, partial(memory, work, "all", repeat))
            ratios["memory_growth_ratio"].append(more["peak_memory_mib"] / fewer["peak_memory_mib"])
            one = measured("ray_1_actor", repeat, partial(throughput, work, 1, repeat))
            two = measured("ray_2_actors", repeat, partial(throughput, work, 2, repeat))
            ratios["ray_efficiency_2_actors"].append(two["rows_per_second"] / (2 * one["rows_per_second"]))
            files += [fewer, more, one, two]
    for name, values in ratios.items():
        figures |= {name: statistics.median(values), f"{name}_min": min(values), f"{name}_max": max(values)}
    for name in ("ray_1_actor", "ray_2_actors"):
        rates = [results.read_arm(PROGRAM, name, repeat)["rows_per_second"] for repeat in range(REPEATS)]
        figures[f"rows_per_second_{name}"] = statistics.median(rates)
    figures = {name: round(value, 4) for name, value in figures.items()}
    results.write_summary(PROGRAM, figures, files, argv)


if __name__ == "__main__":
    run_command(main)
