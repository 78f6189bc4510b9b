"""What does `lbr serve` do with many clients, with hostile ones, for long, at its end, and over many passages?

    python benchmarks/serving.py                           # all parts, 25 minutes
    python benchmarks/serving.py --parts load search       # some of them; others may be run later
    python benchmarks/serving.py --scale tiny              # a tiny model, seconds; results in serving_tiny

Protocol, fixed before it ran. Minutes on two cores, estimated before: load 7, soak 11, hostile 2, stop 2, search 2.

- The server is `lbr serve` as a process of its own, one thread on one core; all else, clients too, is on the other one.
  The model has the shape of SmolLM2-135M with weights as they are drawn, in float32, 128 tokens, one bottleneck token.
  Clients ask over loopback by HTTP, each on a connection that it keeps, for base64, as the client of OpenAI does.
- Texts are seeded random words of one token each. A query has 3 to 11 words, a passage 30 to 120, each length as
  often: about as long as those of search in the web. `mixed` is a server that is asked questions while documents are
  added: of 16 requests 15 are a query and one is a passage.
- ``load``: 32 clients, each asking its next text when it has the answer to its last, for 60 seconds of `mixed` and 30
  of queries alone and of passages alone. Before and after, one client asks the same server for a deck of 128 of these
  texts, one after the other, and ``model.encode`` encodes the same, one after the other, on the server's core. A rate
  is that of the answers within the seconds; ``throughput_vs_one_by_one`` is over the rate of the one client,
  ``throughput_vs_encode`` over that of ``encode``; with ``_queries`` and ``_passages`` those of texts of one kind.
  ``p99_over_p50``: of the seconds of all requests of `mixed` with 32 clients. ``requests_lost``: requests of all of
  it without a whole answer, or with a vector that is not within 1e-5 of that of ``encode`` where that is known.
- ``soak``: 10 minutes of 32 clients. Of 8 requests one has 8 texts, and every second a client goes while it is waited
  for. ``memory_growth_ratio``: memory that is the server's alone (USS), looked at every second, median of the last
  minute over that of the second one.
- ``hostile``: 2,000 requests, of 24 kinds in turn, by 8 clients at once: `serving_hostile.py` has them, each with the
  one status that it must get; what is refused must say so in OpenAI's form, what is taken must be whole. What is
  broken off gets no answer. ``unexpected_status`` counts all others, and one more for each of these: the server does
  not live after it, gives another vector than before, or has logged an error.
- ``stop``: five times SIGTERM, at a moment between 1 and 4 seconds of 32 clients, one of 4 requests with 16 texts.
  ``answers_cut``: requests that were sent on an open connection and got no whole answer; and ends of the server with
  another code than 0. A connection that is not taken any more is no request.
- ``search``: 100,000 passages with vectors of random numbers, as `lbr encode` writes them, with their texts. 200
  questions, each asked of ``/search?by=dense&k=10`` by one client and then, on the server's core, of numpy, or the
  other way around: ``model.encode_query``, one product with the same matrix in memory, float32, and the ten best by
  ``argpartition``. ``search_p50_ms_over_numpy`` is the median of the one over that of the other, both with the encoding
  of the question; ``search_wrong`` counts questions with other hits.

A part whose result file is there is not run again. Run it on a machine that does nothing else:
``server_cpu_share`` says how much of its core the server had under load.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import results
import serving_hostile as hostile
import torch
from flags import program_parser
from serving_clients import Answered, Client, Question, Served, Vectors, ask_all, cores, lost, on_core, serving
from stage1_speed import make_text, make_words
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForCausalLM
from what_it_takes import SHAPES

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.use.shards import Job, Manifest, describe_origin, write_embeddings

PROGRAM = "serving"
TOKENS = 128
QUERY_WORDS, PASSAGE_WORDS = (3, 11), (30, 120)
MIXES = {"mixed": 1 / 16, "queries": 0.0, "passages": 1.0}  # share of passages
TEXTS_OF_A_LIST, LIST_OF = 8, 8  # of the soak: one of so many requests
LISTS_AT_THE_END, LIST_AT_THE_END = 4, 16
CLIENTS_OF_HOSTILE, K = 8, 10
NEAR = 1e-5  # what numbers of two vectors of one text may differ by
MIB = 2**20


@dataclass(frozen=True)
class Scale:
    """How much is measured, of what.

    Attributes:
        shape: What the configuration of the backbone has other than that of SmolLM2-135M.
        clients: Clients at once.
        deck: Texts that are asked one by one.
        seconds: Seconds of load of each mix.
        soak_seconds: Seconds of the soak; the memory is looked at in its second and its last tenth.
        hostile: Number of hostile requests.
        stops: Number of SIGTERMs.
        stop_after: Earliest and latest seconds of one.
        passages: Passages to search.
        questions: Questions asked of them.
    """

    shape: dict[str, Any]
    clients: int = 32
    deck: int = 128
    seconds: tuple[float, float, float] = (60, 30, 30)
    soak_seconds: float = 600
    hostile: int = 2000
    stops: int = 5
    stop_after: tuple[float, float] = (1, 4)
    passages: int = 100_000
    questions: int = 200


TINY = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 64}  # fmt: skip
SCALES = {
    "smollm2": Scale({}),
    "tiny": Scale(TINY, 8, 16, (1, 0.5, 0.5), 4, 96, 1, (0.5, 0.6), 500, 10),
}


class Bench:
    """A model, and texts to ask for.

    Args:
        folder: Folder to work in.
        scale: How much is measured.
        seed: Seed of all draws.
    """

    def __init__(self, folder: Path, scale: Scale, seed: int) -> None:
        self.folder, self.scale, self.seed = folder, scale, seed
        self.server_core, self.own_core = cores()
        self.path = folder / "model"
        self._make_model(folder / "backbone")
        with on_core(self.server_core):
            self.model = open_sentence_transformer(str(self.path)).eval()

    def _make_model(self, backbone: Path) -> None:
        backbone.mkdir()
        eos = make_words(backbone)
        ids = {"bos_token_id": eos, "eos_token_id": eos, "tie_word_embeddings": True, "max_position_embeddings": 2048}
        config = AutoConfig.for_model(**{**SHAPES["135m"], **self.scale.shape, **ids})
        torch.manual_seed(self.seed)
        AutoModelForCausalLM.from_config(config).save_pretrained(backbone)
        model = lbr_st.from_backbone(str(backbone), num_bottleneck_tokens=1, max_seq_length=TOKENS, dtype=torch.float32)
        lbr_st.save(model, self.path)
        self.words: list[str] = json.loads((backbone / "words.json").read_text(encoding="utf-8"))

    def serve(self, part: str, *flags: str) -> Any:
        """Serve the model; a context."""
        return serving(self.server_core, self.path, self.folder / f"{part}.log", *flags)

    def deck(self, mix: str) -> list[Question]:
        """Return the texts of a mix: each length as often, passages where chance puts them."""
        rng, number = random.Random(f"{self.seed} {mix}"), self.scale.deck
        passages = round(number * MIXES[mix])
        lengths = [(True, words) for words in _spread(QUERY_WORDS, number - passages)]
        lengths += [(False, words) for words in _spread(PASSAGE_WORDS, passages)]
        rng.shuffle(lengths)
        return [Question([make_text(self.words, rng, words)], is_query) for is_query, words in lengths]

    def encode(self, question: Question) -> Vectors:
        """Return the vectors of texts by the model itself."""
        encode: Any = self.model.encode_query if question.is_query else self.model.encode_document
        return encode(question.texts, show_progress_bar=False)


def _spread(words: tuple[int, int], number: int) -> list[int]:
    return [round(each) for each in np.linspace(*words, number)]


# ---- load


def measure_load(bench: Bench) -> dict[str, Any]:
    """Let many clients ask, and one, and the model itself."""
    with bench.serve("load") as server:
        found: dict[str, Any] = {}
        for mix, seconds in zip(MIXES, bench.scale.seconds, strict=True):
            found[mix] = _load(bench, server, bench.deck(mix), seconds)
    return found


def _load(bench: Bench, server: Served, deck: Sequence[Question], seconds: float) -> dict[str, Any]:
    for question in deck[:3]:  # not counted
        bench.encode(question)
        ask_all(server.address, lambda number: deck[number], 1, lambda number, begun: number < 3)  # noqa: B023
    expected: dict[int, Vectors] = {}

    def one_by_one() -> list[Answered]:
        return ask_all(server.address, lambda number: deck[number], 1, lambda number, begun: number < len(deck))

    def by_encode() -> float:
        with on_core(bench.server_core):
            start = time.perf_counter()
            for number, question in enumerate(deck):
                expected[number] = bench.encode(question)
            return time.perf_counter() - start

    alone, encoded = one_by_one(), [by_encode()]
    before, start = server.cpu_seconds(), time.perf_counter()
    many = ask_all(
        server.address,
        lambda number: deck[number % len(deck)],
        bench.scale.clients,
        lambda number, begun: begun < seconds,
    )
    share = (server.cpu_seconds() - before) / (time.perf_counter() - start)
    again = one_by_one()
    encoded.append(by_encode())
    answers = [*alone, *many, *again]
    largest = max(
        float(np.abs(each.vectors - expected[each.number % len(deck)]).max())
        for each in answers
        if each.vectors is not None
    )
    wrong = sum(
        each.vectors is not None and bool(np.abs(each.vectors - expected[each.number % len(deck)]).max() > NEAR)
        for each in answers
    )
    took = sorted(each.seconds for each in many)
    return {
        "requests": len(answers), **lost(answers), "wrong": wrong, "largest_difference": largest,
        "texts_per_second": sum(each.begun + each.seconds <= seconds for each in many) / seconds,
        "texts_per_second_one_by_one": len(deck) * 2 / sum(each.seconds for each in [*alone, *again]),
        "texts_per_second_encode": len(deck) * 2 / sum(encoded),
        "p50_seconds": statistics.median(took), "p99_seconds": float(np.quantile(took, 0.99)), "slowest": took[-1],
        "server_cpu_share": share,
    }  # fmt: skip


def figures_of_load(found: dict[str, Any]) -> dict[str, float]:
    """Return the figures of the load."""
    mixed = found["mixed"]
    figures = {
        "requests": sum(found[mix]["requests"] for mix in MIXES),
        "requests_lost": sum(found[mix]["lost"] + found[mix]["wrong"] for mix in MIXES),
        "p99_over_p50": mixed["p99_seconds"] / mixed["p50_seconds"],
        "p50_ms": 1000 * mixed["p50_seconds"],
        "p99_ms": 1000 * mixed["p99_seconds"],
        "server_cpu_share": mixed["server_cpu_share"],
    }
    for mix in MIXES:
        end = "" if mix == "mixed" else f"_{mix}"
        rate = found[mix]["texts_per_second"]
        figures[f"texts_per_second{end}"] = rate
        for other in ("one_by_one", "encode"):
            figures[f"texts_per_second_{other}{end}"] = found[mix][f"texts_per_second_{other}"]
            figures[f"throughput_vs_{other}{end}"] = rate / found[mix][f"texts_per_second_{other}"]
    return figures


# ---- soak


def measure_soak(bench: Bench) -> dict[str, Any]:
    """Let many clients ask for long, and look at the memory of the server."""
    deck, seconds = bench.deck("mixed"), bench.scale.soak_seconds
    lists = [
        Question([each.texts[0] for each in deck[start : start + TEXTS_OF_A_LIST]], deck[start].is_query)
        for start in range(0, len(deck), TEXTS_OF_A_LIST)
    ]

    def question(number: int) -> Question:
        is_list = number % LIST_OF == 0
        return lists[number // LIST_OF % len(lists)] if is_list else deck[number % len(deck)]

    mib: list[tuple[float, float]] = []
    done = threading.Event()

    def watch(server: Served) -> None:
        start = time.perf_counter()
        with tqdm(total=round(seconds), desc="Soak", unit="s") as progress:
            while not done.wait(min(1.0, seconds / 40)):
                now = time.perf_counter() - start
                mib.append((now, server.memory() / MIB))
                progress.update(round(min(now, seconds)) - progress.n)
                _ask_and_go(server, lists[len(mib) % len(lists)])

    with bench.serve("soak") as server:
        watcher = threading.Thread(target=watch, args=(server,))
        watcher.start()
        try:
            answers = ask_all(server.address, question, bench.scale.clients, lambda number, begun: begun < seconds)
        finally:
            done.set()
            watcher.join()
    tenth = seconds / 10
    early = [each for at, each in mib if tenth <= at < 2 * tenth]
    late = [each for at, each in mib if 9 * tenth <= at < seconds]
    return {
        "requests": len(answers), **lost(answers), "clients_gone": len(mib), "seconds": seconds,
        "mib_early": statistics.median(early), "mib_late": statistics.median(late),
        "mib_most": max(each for _, each in mib),
        "mib": [[round(at, 1), round(each, 1)] for at, each in mib[:: max(1, len(mib) // 60)]],
    }  # fmt: skip


def _ask_and_go(server: Served, question: Question) -> None:
    with socket.create_connection(server.address) as connection:
        connection.sendall(hostile.of_json({"input": question.texts}))


def figures_of_soak(found: dict[str, Any]) -> dict[str, float]:
    """Return the figures of the soak."""
    return {
        "memory_growth_ratio": found["mib_late"] / found["mib_early"],
        "memory_mib": found["mib_late"],
        "soak_minutes": found["seconds"] / 60,
        "soak_requests": found["requests"],
        "soak_requests_lost": found["lost"],
    }


# ---- hostile


def measure_hostile(bench: Bench) -> dict[str, Any]:
    """Send what is wrong, and look whether the server is what it was."""
    cases = [hostile.hostile_request(number, bench.seed) for number in range(bench.scale.hostile)]
    known = bench.deck("queries")[0]
    with bench.serve("hostile", *hostile.FLAGS) as server:
        with Client(server.address) as client:
            before = client.embed(known)
        with ThreadPoolExecutor(CLIENTS_OF_HOSTILE) as clients:
            asked = clients.map(lambda case: hostile.what_is_wrong(server.address, case), cases)
            wrong = [*tqdm(asked, "Hostile", total=len(cases), unit="requests")]
        after: dict[str, bool] = {"lives": server.process.poll() is None}
        try:
            with Client(server.address) as client:
                after["healthy"] = client.ask("GET", "/health")[0] == 200
                after["same_vector"] = bool(np.abs(client.embed(known) - before).max() < NEAR)
        except (OSError, ValueError):
            after["healthy"] = False
        after["nothing_logged"] = "Traceback" not in server.log.read_text(encoding="utf-8")
    first = [
        f"{number}, {case.kind}: {why}" for number, (case, why) in enumerate(zip(cases, wrong, strict=True)) if why
    ]
    return {
        "requests": len(cases), "wrong": len(first), "first_wrong": first[:20], "after": after,
        "kinds": dict(Counter(case.kind for case in cases)),
        "statuses": dict(Counter(str(case.status) for case in cases)),
    }  # fmt: skip


def figures_of_hostile(found: dict[str, Any]) -> dict[str, float]:
    """Return the figures of hostile requests."""
    failed = sum(not each for each in found["after"].values())
    return {"hostile_requests": found["requests"], "unexpected_status": found["wrong"] + failed}


# ---- stop


def measure_stop(bench: Bench) -> dict[str, Any]:
    """Tell servers to end while they are asked."""
    rng = random.Random(bench.seed)
    stops = [_stop(bench, rng.uniform(*bench.scale.stop_after)) for _ in range(bench.scale.stops)]
    return {"stops": stops}


def _stop(bench: Bench, after: float) -> dict[str, Any]:
    deck = bench.deck("mixed")
    large = Question([each.texts[0] for each in deck[:LIST_AT_THE_END]], is_query=True)
    told: list[float] = []

    def question(number: int) -> Question:
        return large if number % LISTS_AT_THE_END == 0 else deck[number % len(deck)]

    with bench.serve("stop") as server:
        ask_all(server.address, question, 1, lambda number, begun: number < 3)
        start = time.perf_counter()

        def tell() -> None:
            server.process.send_signal(signal.SIGTERM)
            told.append(time.perf_counter() - start)

        timer = threading.Timer(after, tell)
        timer.start()
        answers = ask_all(server.address, question, bench.scale.clients, lambda number, begun: True)
        timer.join()
        code = server.process.wait(60)
    taken = [each for each in answers if not each.is_refused]
    in_flight = sum(each.begun < told[0] < each.begun + each.seconds for each in taken)
    return {
        "requests": len(taken), **lost(taken), "in_flight": in_flight, "code": code, "after": after,
        "seconds_to_end": max(each.begun + each.seconds for each in taken) - told[0],
    }  # fmt: skip


def figures_of_stop(found: dict[str, Any]) -> dict[str, float]:
    """Return the figures of the ends."""
    stops = found["stops"]
    return {
        "answers_cut": sum(each["lost"] + (each["code"] != 0) for each in stops),
        "stops": len(stops),
        "answers_in_flight_at_stop": sum(each["in_flight"] for each in stops),
    }


# ---- search


def measure_search(bench: Bench) -> dict[str, Any]:
    """Search many passages by the server and by numpy."""
    data, matrix = _passages(bench)
    questions = [each.texts[0].strip() for each in bench.deck("queries")]
    took: dict[str, list[float]] = {"server": [], "numpy": []}
    wrong = 0
    with bench.serve("search", "--data", str(data)) as server, Client(server.address) as client:

        def of_server(question: str) -> list[str]:
            return client.search(question, K)

        def of_numpy(question: str) -> list[str]:
            with on_core(bench.server_core):
                vector = bench.model.encode_query(question, show_progress_bar=False)
                scores = matrix @ vector
                best = np.argpartition(-scores, K)[:K]
                return [f"p{number}" for number in best[np.argsort(-scores[best])]]

        ways: list[tuple[str, Callable[[str], list[str]]]] = [("server", of_server), ("numpy", of_numpy)]
        for number in tqdm(range(-3, bench.scale.questions), "Search", unit="questions"):
            hits = {}
            for name, ask in ways if number % 2 else ways[::-1]:
                start = time.perf_counter()
                hits[name] = ask(questions[number % len(questions)])
                if number >= 0:
                    took[name].append(time.perf_counter() - start)
            wrong += hits["server"] != hits["numpy"]
    return {"wrong": wrong, "seconds": took, "passages": bench.scale.passages, "dimensions": matrix.shape[1]}


def _passages(bench: Bench) -> tuple[Path, Vectors]:
    """Write passages as `lbr encode` does, with vectors that are drawn; return the folder, and the vectors."""
    rng, number = np.random.default_rng(bench.seed), bench.scale.passages
    matrix = rng.standard_normal((number, bench.model.get_embedding_dimension() or 0), np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    draw = random.Random(bench.seed)
    texts = [make_text(bench.words, draw, words).strip() for words in _spread(PASSAGE_WORDS, number)]
    folder, job = bench.folder / "encoded", Job(model=str(bench.path), with_text=True)
    folder.mkdir()
    shards = -(-number // job.shard_rows)
    manifest = Manifest.begin(folder, describe_origin(job, []), number, shards)
    for shard in range(shards):
        rows = slice(shard * job.shard_rows, min((shard + 1) * job.shard_rows, number))
        ids = [f"p{at}" for at in range(rows.start, rows.stop)]
        write_embeddings(folder, shard, pa.table({"id": ids, "document": texts[rows]}), matrix[rows], longer=0)
        manifest.add(shard)
    manifest.finish()
    return folder, matrix


def figures_of_search(found: dict[str, Any]) -> dict[str, float]:
    """Return the figures of searching."""
    p50 = {name: 1000 * statistics.median(seconds) for name, seconds in found["seconds"].items()}
    return {
        "search_p50_ms_over_numpy": p50["server"] / p50["numpy"],
        "search_p50_ms": p50["server"],
        "search_p50_ms_numpy": p50["numpy"],
        "search_passages": found["passages"],
        "search_wrong": found["wrong"],
    }


PARTS: dict[str, tuple[Callable[[Bench], dict[str, Any]], Callable[[dict[str, Any]], dict[str, float]]]] = {
    "load": (measure_load, figures_of_load),
    "soak": (measure_soak, figures_of_soak),
    "hostile": (measure_hostile, figures_of_hostile),
    "stop": (measure_stop, figures_of_stop),
    "search": (measure_search, figures_of_search),
}


def program_of(scale: str) -> str:
    """Return the name of the folder of results: what is tiny is no result of the server."""
    return PROGRAM if scale == "smollm2" else f"{PROGRAM}_{scale}"


def main(argv: list[str] | None = None) -> None:
    """Measure the parts that were asked for and are not there, and write a summary of all that are."""
    parser = program_parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--scale", choices=SCALES, default="smollm2", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    args = parser.parse_args(argv)
    program, scale = program_of(args.scale), SCALES[args.scale]
    # As JSON has it, to be compared with what a result file says.
    settings = {"scale": args.scale, **json.loads(json.dumps(asdict(scale)))}
    results.conditions()
    torch.set_num_threads(1)

    def is_there(part: str) -> bool:
        return results.is_measured(program, part, args.seed, settings)

    missing = [part for part in args.parts if not is_there(part)]
    with tempfile.TemporaryDirectory() as folder, on_core(cores()[1]):
        bench = Bench(Path(folder), scale, args.seed) if missing else None
        for part in missing:
            start = time.perf_counter()
            assert bench is not None
            found = PARTS[part][0](bench)
            minutes = (time.perf_counter() - start) / 60
            results.write_arm(program, part, args.seed, {"found": found, "minutes": minutes, "settings": settings})
    arms = {part: results.read_arm(program, part, args.seed) for part in PARTS if is_there(part)}
    figures: dict[str, float] = {}
    for part, arm in arms.items():
        figures |= {name: round(value, 4) for name, value in PARTS[part][1](arm["found"]).items()}
        figures[f"minutes_{part}"] = round(arm["minutes"], 1)
    results.write_summary(program, figures, [*arms.values()], argv)
    for name, value in figures.items():
        print(f"{name} {value:g}")


if __name__ == "__main__":
    run_command(main)
