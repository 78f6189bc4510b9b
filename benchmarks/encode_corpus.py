"""Encoding a corpus: does it survive being killed, does its memory stay, and do two actors of Ray do twice as much?

    python benchmarks/encode_corpus.py
    python benchmarks/encode_corpus.py --parts memory    # some of it; what was measured before stays

Protocol:

- 20,000 passages of the code domain: functions of the packages installed. The model has the shape of the nano
  backbone (4 layers, 256 wide) with weights as they are drawn, 64 tokens, one bottleneck token; it computes in
  float32. (The file of kills that is there was measured in bf16.)
- ``kills_survived``: `lbr encode` (shards of 500 rows) is killed five times, each time 1 to 4 seconds after it wrote a
  file, drawn with a fixed seed, and started again. A kill is survived if it came before the end and every file that was
  whole is there as it was; and none is, if the files in the end are not those of a straight run, byte for byte.
- ``memory_growth_ratio``: most memory of the process with 100,000 rows over that with 10,000, once. The passages are
  those of above, each with a number before it, so that none is there twice.
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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import results
import torch
from flags import program_parser
from interleaved import ratio
from nano import nano_config, train_tokenizer
from transformers import Qwen2ForCausalLM

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.data.installed_packages import installed_pairs
from lbr_st.errors import InputError
from lbr_st.files import file_sha256, write_jsonl

PROGRAM = "encode_corpus"
ROWS, SHARD_ROWS, RAY_SHARD_ROWS = 20_000, 500, 250
MEMORY_ROWS = {"10k": 10_000, "100k": 100_000}
KILLS, REPEATS, STARTED = 5, 3, 20
PARTS = ("kills", "memory", "ray")
ACTORS = {"ray_1_actor": 1, "ray_2_actors": 2}
WAITS = (1.0, 4.0)  # seconds of encoding before a kill
# Prints the most memory that the process ever had, in KiB; what getrusage says has that of its parent in it.
RUN = (
    "import re, sys; from pathlib import Path; from lbr_st.cli.main import main; main(sys.argv[1:]); "
    "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])"
)


def make_corpus(work: Path) -> Path:
    """Write the passages and return the folder of the model."""
    passages = [pair["document"] for pair in itertools.islice(installed_pairs(), ROWS)]
    if len(passages) < ROWS:
        raise InputError(f"only {len(passages)} documented functions are installed, {ROWS} are needed")
    write_jsonl(work / "all.jsonl", ({"id": str(n), "text": text} for n, text in enumerate(passages)))
    for name, number in MEMORY_ROWS.items():
        rows = ({"id": str(n), "text": f"{n} {passages[n % ROWS]}"} for n in range(number))
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


def memory(data: str, work: Path) -> dict[str, Any]:
    """Measure the most memory of a run, in MiB."""
    return {"peak_memory_mib": run(arguments(work, f"memory-{data}", data)) / 1024}


def throughput(actors: int, repeat: int, work: Path) -> dict[str, Any]:
    """Measure the rows a second of a number of actors."""
    output = f"ray-{actors}-{repeat}"
    run([*arguments(work, output, shard_rows=RAY_SHARD_ROWS), "--engine", "ray", "--actors", str(actors)])
    done = sorted(file.stat().st_mtime for file in (work / output).glob("part-*.parquet"))
    counted = done[STARTED - 1 :]
    return {
        "rows_per_second": (len(counted) - 1) * RAY_SHARD_ROWS / (counted[-1] - counted[0]),
        "seconds_of_files": [round(each - done[0], 2) for each in done],
    }


class Job(NamedTuple):
    """What has a result file.

    Attributes:
        arm: Its name.
        repeat: Which of its repeats.
        rows: Rows that are encoded.
        measure: What measures it, in a folder with the corpus.
    """

    arm: str
    repeat: int
    rows: int
    measure: Callable[[Path], dict[str, Any]]


def jobs_of(part: str) -> list[Job]:
    """Return what is measured for a part, in the order that it is measured in."""
    if part == "kills":
        return [Job("kills", 0, ROWS, kills)]
    if part == "memory":
        return [Job(f"memory_{name}", 0, rows, partial(memory, name)) for name, rows in MEMORY_ROWS.items()]
    return [
        Job(name, repeat, ROWS, partial(throughput, actors, repeat))
        for repeat in range(REPEATS)
        for name, actors in ACTORS.items()
    ]


def figures_of(part: str, found: dict[tuple[str, int], dict[str, Any]]) -> dict[str, float]:
    """Return the figures of a part.

    Args:
        part: One of `PARTS`.
        found: Its results, by arm and repeat.
    """
    if part == "kills":
        return {"kills_survived": found["kills", 0]["survived"]}
    if part == "memory":
        less, more = (found[f"memory_{name}", 0]["peak_memory_mib"] for name in MEMORY_ROWS)
        return {"memory_growth_ratio": more / less, "peak_memory_mib_100k_rows": more}
    one, two = ([found[name, n]["rows_per_second"] for n in range(REPEATS)] for name in ACTORS)
    figures = ratio("ray_efficiency_2_actors", two, [2 * rate for rate in one])
    return figures | {
        f"rows_per_second_{name}": statistics.median(rates) for name, rates in zip(ACTORS, (one, two), strict=True)
    }


def main(argv: list[str] | None = None) -> None:
    """Measure what is missing of what was asked for, and write the summary of all that is there."""
    parser = program_parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="(default: all)")
    asked = parser.parse_args(argv).parts
    results.conditions()
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def is_there(job: Job) -> bool:
        return results.is_measured(PROGRAM, job.arm, job.repeat, {"rows": job.rows})

    missing = [job for part in asked for job in jobs_of(part) if not is_there(job)]
    with tempfile.TemporaryDirectory() as folder:
        if missing:
            make_corpus(Path(folder))
        for job in missing:
            found = job.measure(Path(folder))
            results.write_arm(PROGRAM, job.arm, job.repeat, {**found, "settings": {"rows": job.rows}})
    figures: dict[str, float] = {}
    files: list[dict[str, Any]] = []
    for part in PARTS:
        if all(map(is_there, jobs_of(part))):
            of_part = {(job.arm, job.repeat): results.read_arm(PROGRAM, job.arm, job.repeat) for job in jobs_of(part)}
            figures |= figures_of(part, of_part)
            files += of_part.values()
    results.write_summary(PROGRAM, {name: round(value, 4) for name, value in figures.items()}, files, argv)


if __name__ == "__main__":
    run_command(main)
