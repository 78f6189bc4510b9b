"""What the fuzzer draws: texts, rows, files, damaged folders, flags, and of them the cases of every command."""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import gzip
import io
import json
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fuzz_serving
from hypothesis import strategies as st

# Flags that start processes by the thousand, compile, or talk to other machines.
LEFT_OUT = {
    "help", "help_training", "config", "output_dir", "model", "data", "sources", "question", "num_proc", "actors",
    "engine", "ray_address", "dataloader_num_workers", "dataloader_prefetch_factor", "dataloader_persistent_workers",
    "local_rank",
    "ddp_backend", "ddp_timeout", "fsdp", "fsdp_config", "deepspeed", "torch_compile", "torch_compile_backend",
    "torch_compile_mode", "push_to_hub", "max_steps", "num_train_epochs", "results_dir", "tasks", "command", "work_dir",
    "generator", "generator_model", "learn", "align", "runtime", "steps", "recommender_steps", "rounds", "joint_steps",
}  # fmt: skip


@dataclass
class Case:
    """A command and the files that lie in the folder it is started in."""

    argv: list[str]
    files: dict[str, bytes]

    @property
    def text(self) -> str:
        """The command as a shell takes it."""
        return shlex.join(["lbr", *self.argv])


# --- what is drawn: texts, rows, files ---

GOOD = [
    "How is anaemia treated?", "With iron, folic acid or B12.", "What causes high blood pressure?",
    "Salt, weight and age raise it.", "Sort a list", "Use sorted().", "Wie wird Anämie behandelt?",
    "貧血の治療法は何ですか。",
]  # fmt: skip
ODD = [
    "", " ", "\x00", "a\x00b", "\ud83d", "\udcff", "\ufeff", "\u202e", "a\r\nb", "\n", "\t", "|", '"', "'", "{query}",
    "{", "}", "<|endoftext|>", "<b>", "&nbsp;", "---", "x" * 5000, "ä" * 100, "\U0001f469\u200d\U0001f467", "nan",
    "null", "0", "-1", "1e400", "<|bottleneck 0|>", "../..", "~", "C1=CC=CC=C1", "\u2028",
]  # fmt: skip
NAMES = [
    "query", "question", "anchor", "document", "answer", "positive", "text", "passage", "pos", "neg", "negative",
    "negatives", "negative_1", "title", "id", "_id", "label", "score", "relevance", "messages", "conversations", "",
    "Unnamed: 0", "query.text", "documents", "options", "choices",
]  # fmt: skip
texts = st.one_of(st.sampled_from(GOOD), st.sampled_from(ODD), st.text(max_size=20))
odd_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.sampled_from([10**400, -(2**70), 2**63, 0, 1]), st.floats(), texts
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)),
    max_leaves=6,
)
values = st.one_of(texts, texts, odd_values)
pairs = st.fixed_dictionaries({"query": st.sampled_from(GOOD), "document": st.sampled_from(GOOD)})
rows = st.one_of(
    pairs,
    pairs.flatmap(lambda row: st.dictionaries(st.sampled_from(NAMES), values, max_size=2).map(lambda more: row | more)),
    st.fixed_dictionaries({"query": texts, "document": texts}),
    st.dictionaries(st.sampled_from(NAMES), values, max_size=4),
)
tables = st.lists(rows, max_size=12)


def good_rows(count: int = 12) -> list[dict[str, Any]]:
    """Return rows that every command takes."""
    return [
        {"id": f"r{i}", "query": f"{GOOD[i % 4]} {i}", "document": f"{i} {GOOD[(i + 1) % 8]}"} for i in range(count)
    ]


def choices() -> list[dict[str, Any]]:
    """Return who chose what, as every recommender takes it."""
    return [
        {"user_id": f"u{user}", "item_id": f"i{(user + at * at) % 8}", "timestamp": 100 + at}
        for user in range(8)
        for at in range(4)
    ]


def as_jsonl(table: Sequence[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in table).encode()


def as_json(table: Sequence[Any]) -> bytes:
    return json.dumps(list(table)).encode()


def as_wrapped_json(table: Sequence[Any]) -> bytes:
    return json.dumps({"version": 1, "data": list(table)}).encode()


def as_csv(table: Sequence[Mapping[str, Any]], delimiter: str = ",") -> bytes:
    names = list(dict.fromkeys(name for row in table for name in row))
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter)
    writer.writerow(names)
    for row in table:
        writer.writerow([row.get(name, "") for name in names])
    return written.getvalue().encode("utf-8", "surrogatepass")


def as_tsv(table: Sequence[Mapping[str, Any]]) -> bytes:
    return as_csv(table, "\t")


def as_parquet(table: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        made = pa.Table.from_pylist([dict(row) for row in table])
    except (pa.ArrowException, ValueError, OverflowError, TypeError):  # of several types: no Parquet has that
        names = list(dict.fromkeys(name for row in table for name in row))
        clean = [{name: repr(row.get(name)).encode("ascii", "replace").decode() for name in names} for row in table]
        made = pa.Table.from_pylist(clean)
    written = pa.BufferOutputStream()
    try:
        pq.write_table(made, written)
    except pa.ArrowException:  # empty structs
        return b"PAR1PAR1"
    return written.getvalue().to_pybytes()


FORMATS: dict[str, Callable[[Sequence[Any]], bytes]] = {
    "rows.jsonl": as_jsonl, "rows.json": as_json, "wrapped.json": as_wrapped_json, "rows.csv": as_csv,
    "rows.tsv": as_tsv, "rows.parquet": as_parquet, "rows.jsonl.gz": lambda table: gzip.compress(as_jsonl(table)),
    "rows.csv.gz": lambda table: gzip.compress(as_csv(table)), "rows.txt": lambda table: as_jsonl(table)[:200],
}  # fmt: skip

MUTATIONS: dict[str, Callable[[bytes, int], bytes]] = {
    "nothing": lambda content, at: content,
    "flipped": lambda content, at: (
        content[:at] + bytes([(content[at : at + 1] or b"\0")[0] ^ 0xFF]) + content[at + 1 :]
    ),
    "cut": lambda content, at: content[:at],
    "twice": lambda content, at: content + content[at:],
    "without a piece": lambda content, at: content[:at] + content[at + 7 :],
    "NUL": lambda content, at: content[:at] + b"\0" + content[at:],
    "BOM": lambda content, at: b"\xef\xbb\xbf" + content,
    "CRLF": lambda content, at: content.replace(b"\n", b"\r\n"),
    "CR": lambda content, at: content.replace(b"\n", b"\r"),
    "UTF-16": lambda content, at: content.decode("utf-8", "replace").encode("utf-16"),
    "Latin-1": lambda content, at: content.decode("utf-8", "replace").encode("latin-1", "replace"),
    "half a character": lambda content, at: content[:at] + b"\xe4\xb8" + content[at:],
    "a key twice": lambda content, at: content.replace(b'"query":', b'"query": 1, "query":', 1),
    "deep": lambda content, at: b"[" * 5000 + content[at:],
    "a blank line": lambda content, at: content[:at] + b"\n\n" + content[at:],
    "a quote": lambda content, at: content[:at] + b'"' + content[at:],
    "a huge number": lambda content, at: content.replace(b'"', b"1" + b"0" * 5000, 1),
}


@st.composite
def mutated(draw: Any, content: bytes) -> bytes:
    """Draw a file that is like another."""
    mutation = MUTATIONS[draw(st.sampled_from([*MUTATIONS]))]
    return mutation(content, draw(st.integers(0, max(0, len(content)))))


@st.composite
def one_file(draw: Any) -> tuple[str, dict[str, bytes]]:
    """Draw a file of rows: its name, and what lies in the folder."""
    name = draw(st.sampled_from([*FORMATS]))
    table = draw(st.one_of(st.just(good_rows()), tables))
    return name, {name: draw(mutated(FORMATS[name](table)))}


@st.composite
def text_folder(draw: Any) -> tuple[str, dict[str, bytes]]:
    """Draw a folder of texts, Markdown, HTML and code."""
    bodies = {
        "a.md": b"---\ntitle: Iron\n---\n# Head\n\nText of it.\n\n## Next\n\n| a | b |\n| - | - |\n| 1 | 2 |\n",
        "b.html": b"<html><head><title>T</title></head><body><h1>H</h1><p>Text</p><script>x</script></body></html>",
        "c.py": b'def f(x):\n    """Return x."""\n    return x\n',
        "d.txt": b"Ein Text.\n\nNoch einer.\n",
        "sub/e.md": b"+++\ntitle = 1\n+++\ntext\n",
    }
    names = draw(st.lists(st.sampled_from([*bodies]), min_size=1, unique=True))
    return "texts", {f"texts/{name}": draw(mutated(bodies[name])) for name in names}


@st.composite
def beir(draw: Any) -> tuple[str, dict[str, bytes]]:
    """Draw a folder in the form of BEIR."""
    corpus = [{"_id": f"d{i}", "title": f"T{i}", "text": GOOD[i]} for i in range(8)]
    queries = [{"_id": f"q{i}", "text": GOOD[i]} for i in range(8)]
    qrels = "query-id\tcorpus-id\tscore\n" + "".join(
        f"q{i}\td{i}\t{draw(st.sampled_from(ODD + ['1', '0', '2']))}\n" for i in range(8)
    )
    files = {
        "beir/corpus.jsonl": as_jsonl(corpus),
        "beir/queries.jsonl": as_jsonl(queries),
        "beir/qrels/train.tsv": qrels.encode("utf-8", "surrogatepass"),
        "beir/qrels/test.tsv": qrels.encode("utf-8", "surrogatepass"),
    }
    changed = draw(st.sampled_from([*files]))
    return "beir", files | {changed: draw(mutated(files[changed]))}


def passages() -> list[dict[str, str]]:
    """Return passages with titles, long enough that something can be asked about them."""
    return [
        {"id": f"p{i}", "title": f"{GOOD[i % 8]} {i}", "text": " ".join([f"Number {i}:", *GOOD[i % 5 : i % 5 + 3]])}
        for i in range(24)
    ]


def files_of(folder: Path, name: str) -> dict[str, bytes]:
    """Return what a folder holds, as files of a case."""
    return {f"{name}/{file.relative_to(folder)}": file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@st.composite
def damaged_folder(draw: Any, files: dict[str, bytes], name: str) -> tuple[str, dict[str, bytes]]:
    """Draw a folder one file of which is mutated, or gone."""
    changed = draw(st.sampled_from(sorted(files)))
    if draw(st.integers(0, 5)) == 0:
        return name, {key: content for key, content in files.items() if key != changed}
    return name, files | {changed: draw(mutated(files[changed]))}


# --- a server ---

SERVER = "http://server"  # in a command: the server of this process, which answers as the path behind it says
ANSWERS: dict[str, Callable[[str], Any]] = {
    "": lambda asked: f"What is said of {shortest(asked)}?",
    "/same": lambda asked: "What is it?",
    "/odd": lambda asked: ODD[len(asked) % len(ODD)],
    "/refuses": lambda asked: (400, '{"error": {"message": "too long"}}', {}) if len(asked) % 2 else "Why so?",
    "/busy": lambda asked: (503, "", {}),
    "/no-json": lambda asked: (200, "<html>", {}),
    "/no-choice": lambda asked: (200, '{"choices": []}', {}),
    "/no-text": lambda asked: (200, '{"choices": [{"message": {"content": null}}]}', {}),
    "/a-number": lambda asked: (200, "1", {}),
}


def shortest(asked: str) -> str:
    """Return a piece of a prompt that is another for each passage."""
    return " ".join(asked.split()[-6:])


@functools.cache
def server() -> Any:
    """Start the server."""
    from helpers import Server

    import lbr_st.adaptation.endpoint as endpoint

    endpoint.WAITS = (0.0,)
    started = Server()
    started.answer = lambda asked: ANSWERS[started.asked[-1][0].partition("/v1")[0]](asked)
    return started


def with_server(argv: list[str]) -> list[str]:
    """Put the address of the server in a command."""
    return [part.replace(SERVER, server().url) if part.startswith(SERVER) else part for part in argv]


# --- what is drawn: flags ---

NUMBERS = [
    "-1", "0", "1", "2", "0.5", "1000", str(2**31), str(2**63), "1" * 30, "nan", "inf", "-0.0", "1e-300", "1e400",
    "x", "",
]  # fmt: skip
WORDS = [
    "", "x", "0", "none", "{query}", "{document[0]}", "{", "absent.jsonl", ".", "\x00", "ä", "10%", "110%", "-5%",
    "5.5", "1e3",
]  # fmt: skip


@st.composite
def flag_of(draw: Any, action: argparse.Action) -> list[str]:
    """Draw a use of an option: valid, at a boundary, or wrong."""
    option = draw(st.sampled_from(list(action.option_strings)))
    if action.nargs == 0:
        return [option]
    if action.const is True and draw(st.booleans()):  # a switch of a stage, which takes a word too
        return [option]
    pools: list[Sequence[str]] = [NUMBERS, WORDS]
    if action.choices:
        pools = [[str(getattr(each, "value", each)) for each in action.choices]] * 3 + [WORDS]
    elif action.type in (int, float) or "int" in getattr(action.type, "__name__", ""):
        pools = [NUMBERS]
    if action.default not in (None, argparse.SUPPRESS) and not callable(action.default):
        pools = [*pools, [str(getattr(action.default, "value", action.default))]]
    word = st.one_of(*(st.sampled_from(pool) for pool in pools))
    if action.nargs in ("+", "*") or isinstance(action.nargs, int):
        least = action.nargs if isinstance(action.nargs, int) else 1
        return [option, *draw(st.lists(word, min_size=least, max_size=max(least, 3)))]
    return [f"{option}={draw(word)}"]


@st.composite
def flags(draw: Any, actions: Sequence[argparse.Action]) -> list[str]:
    """Draw up to three options of a command."""
    if not actions:
        return []
    chosen = draw(st.lists(st.sampled_from(list(actions)), max_size=3, unique_by=lambda action: action.dest))
    return [part for action in chosen for part in draw(flag_of(action))]


@st.composite
def settings_of(draw: Any, stage: str, with_flags: bool) -> list[str]:
    """Draw how an adaptation is told settings of a stage: one step of it, and some flags of the stage."""
    drawn = draw(flags(actions_of(stage))) if with_flags else []
    return [f"--{stage}", "max_steps=1", *(part[2:] for part in drawn if part.startswith("--") and "=" in part)]


fused = st.one_of(
    st.just([]),
    st.just(["--fuse", "bm25"]),
    st.sampled_from(["0", "1", "0.5", "rrf", *NUMBERS]).map(lambda word: ["--fuse", "bm25", f"--fuse-weight={word}"]),
)
of_server = st.one_of(
    st.just([]),
    st.sampled_from([*ANSWERS, "/v1"]).map(lambda path: ["--generator", f"{SERVER}{path}", "--generator-model", "m"]),
    st.sampled_from(["http://127.0.0.1:1", "http://a:b@c", "ftp://x", *WORDS]).map(
        lambda url: ["--generator", url, "--generator-model", "m"]
    ),
)


@functools.cache
def actions_of(command: str) -> list[argparse.Action]:
    """Return the options of a command, ``learn`` or ``data prepare``, that may be drawn."""
    name, _, below = command.partition(" ")
    parser: Any
    if name in ("learn", "align", "distill"):
        from lbr_st.alignment.config import AlignConfig
        from lbr_st.cli.stages import StageParser
        from lbr_st.distilling.config import DistillConfig
        from lbr_st.learning.config import LearnConfig

        configs = {"learn": LearnConfig, "align": AlignConfig, "distill": DistillConfig}
        parser = StageParser(configs[name], f"lbr {name}", "")
    else:
        parser = _parser_of(name)
        if below:
            [choices] = [each.choices for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
            parser = choices[below]
    return [each for each in parser._actions if each.option_strings and each.dest not in LEFT_OUT]


def _parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser that a command makes, by taking it when it wants to parse."""
    import importlib

    from lbr_st.cli.arguments import Parser

    found: list[argparse.ArgumentParser] = []

    class Taken(BaseException):
        pass

    def take(self: Parser, *args: Any, **kwargs: Any) -> None:
        found.append(self)
        raise Taken

    before = Parser.parse_args
    Parser.parse_args = take  # type: ignore[method-assign, assignment]
    try:
        with contextlib.suppress(Taken):
            importlib.import_module(f"lbr_st.cli.{name}").main([])
    finally:
        Parser.parse_args = before  # type: ignore[method-assign]
    return found[0]


# --- the commands ---


class Commands:
    """Cases of every command, on models and a set that are made once.

    Args:
        folder: Where these are made.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from helpers import make_backbone, make_bert, make_chat_backbone, make_reranker

        import lbr_st
        from lbr_st.adaptation.queries import QueriesConfig, write_queries
        from lbr_st.data import PrepareConfig, prepare

        torch.set_num_threads(1)
        self.backbone = make_backbone(folder / "backbone")
        self.gpt2 = make_backbone(folder / "gpt2", family="gpt2", max_position_embeddings=64)
        lbr_st.save(lbr_st.from_backbone(self.backbone, num_bottleneck_tokens=2, max_seq_length=24), folder / "model")
        self.model = str(folder / "model")
        self.bert = make_bert(folder / "bert")
        self.chat = make_chat_backbone(folder / "chat")
        self.reranker = make_reranker(folder / "reranker")
        end = lbr_st.load(self.model)
        with torch.no_grad():
            for weight in end.parameters():
                weight.mul_(1.5)
        lbr_st.save(end, folder / "end")
        self.end = str(folder / "end")
        (folder / "rows.jsonl").write_bytes(as_jsonl(good_rows(40)))
        sizes: dict[str, Any] = {"test": 5, "dev": 5, "near_duplicates": 0.0}
        prepare(PrepareConfig(sources=[str(folder / "rows.jsonl")], output_dir=folder / "set", num_proc=1, **sizes))
        self.set = files_of(folder / "set", "set")
        self.saved = files_of(folder / "model", "model")
        self.plain = files_of(Path(self.backbone), "plain")
        (folder / "passages.jsonl").write_bytes(as_jsonl(passages()))
        write_queries(QueriesConfig(sources=[str(folder / "passages.jsonl")], output_dir=folder / "queries"))
        self.queries = files_of(folder / "queries", "queries")
        self.scorer = files_of(Path(self.reranker), "reranker")
        good = st.just(("rows.jsonl", {"rows.jsonl": as_jsonl(good_rows())}))
        self.many = many = st.just(("many.jsonl", {"many.jsonl": as_jsonl(good_rows(40))}))
        self.texts = texts = st.just(("passages.jsonl", {"passages.jsonl": as_jsonl(passages())}))
        self.sources = st.one_of(good, one_file(), one_file(), text_folder(), beir(), damaged_folder(self.set, "set"))
        self.corpora = st.one_of(texts, many, texts, many, self.sources)
        self.some_queries = st.one_of(
            st.just(("queries", self.queries)), damaged_folder(self.queries, "queries"), many, self.sources
        )
        self.rerankers = st.one_of(
            st.sampled_from([(self.reranker, {}), (self.reranker, {}), (self.bert, {}), (self.backbone, {})]),
            damaged_folder(self.scorer, "reranker"),
        )
        self.embedders = st.one_of(
            st.sampled_from(
                [(self.model, {}), (self.model, {}), (self.bert, {}), (self.backbone, {}), ("absent/x", {}), ("", {})]
            ),
            damaged_folder(self.saved, "model"),
        )
        self.language_models = st.one_of(
            st.sampled_from(
                [
                    (self.backbone, {}),
                    (self.backbone, {}),
                    (self.gpt2, {}),
                    (self.model, {}),
                    (self.bert, {}),
                    (".", {}),
                ]
            ),
            damaged_folder(self.plain, "plain"),
            damaged_folder(self.saved, "model"),
        )

    def of(self, command: str) -> st.SearchStrategy[Case]:
        """Return the cases of a command."""
        make: Any = getattr(self, command.replace(" ", "_"))
        return st.composite(lambda draw: make(draw, draw(flags(actions_of(command)))))()

    def learn(self, draw: Any, drawn: list[str]) -> Case:
        (model, of_model), (data, files) = draw(self.language_models), draw(self.sources)
        least = ["--max-steps", "1", "--output-dir", "out"]
        if draw(st.integers(0, 5)) == 0:
            said = b"learning_rate: 1e-4\nmax_length: 24\nbf16: false\nsave_strategy: 'no'\n"
            files = files | {"flags.yaml": draw(mutated(said))}
            least += ["--config", "flags.yaml"]
        length = [] if any("max" in each for each in drawn) else ["--max-length", "24"]
        return Case(["learn", "--model", model, "--data", data, *length, *drawn, *least], of_model | files)

    def align(self, draw: Any, drawn: list[str]) -> Case:
        case = self.learn(draw, drawn)
        (model, of_model) = draw(self.embedders) if draw(st.integers(0, 3)) == 0 else (case.argv[2], {})
        more, files = self.given(draw, dev_data=self.sources, corpus_extra=self.sources, **self.teachers)
        weak = ["--weak-teacher"] if draw(st.booleans()) else []
        return Case(["align", "--model", model, *more, *weak, *case.argv[3:]], case.files | of_model | files)

    def adapt(self, draw: Any, drawn: list[str]) -> Case:
        """One thing is odd, or nothing: of all at once none but the first would be met."""
        kinds = ["nothing", "flags", "stages", "model", "corpus", "given", "general", "server", "work"]
        odd = draw(st.sampled_from(kinds))
        if odd == "work":
            last = draw(st.integers(1, 9))
            later = tuple(f"out.work/{number}-" for number in range(last + 1, 11))
            kept = {name: content for name, content in self.work.items() if not name.startswith(later)}
            return Case(self.adaptation, self.corpus_of_work | draw(damaged_folder(kept, "out.work"))[1])
        good: dict[str, Any] = {
            "model": st.sampled_from([(each, {}) for each in (self.chat, self.backbone, self.model, self.bert)]),
            "corpus": st.one_of(self.texts, self.many),
            "pairs": st.one_of(self.many, st.just(("set", self.set))),
            "queries": st.one_of(self.many, st.just(("queries", self.queries))),
            "teacher": st.sampled_from([(self.model, {}), (self.bert, {})]),
            "reranker": st.just((self.reranker, {})),
        }
        if odd == "model":
            good["model"] = st.one_of(self.language_models, self.embedders)
        if odd == "corpus":
            good["corpus"] = self.sources
        if odd == "given":
            good |= {"pairs": self.corpora, "queries": self.some_queries, **self.teachers}
        (model, of_model), (data, files) = draw(good["model"]), draw(good["corpus"])
        taught = draw(st.sampled_from(["teacher", "reranker"]))
        more, of_more = self.given(draw, **{name: good[name] for name in ("pairs", "queries", taught)})
        stages = [part for stage in ("learn", "align") for part in draw(settings_of(stage, odd == "stages"))]
        optional = ["learn", "filter", "negatives", "merge"]
        kept = draw(st.sampled_from([*optional, ""]))  # one of them at most: a step takes a second
        skipped = [] if odd == "nothing" and not kept else [name for name in optional if name != kept]
        general = as_jsonl(good_rows())
        least = ["--max-length", "24", "--general", "general.jsonl", "--output-dir", "out"]
        least += ["--skip", *skipped] if skipped else []
        if "learn" in skipped or model == self.bert:  # stage 1 has no settings then
            stages = stages[stages.index("--align") :]
        if "--queries" not in more:
            more += ["--most-passages", "4", *(draw(of_server) if odd == "server" else [])]
        argv = ["adapt", data, "--model", model, *least, *stages, *more, *(drawn if odd == "flags" else [])]
        general = draw(mutated(general)) if odd == "general" else general
        return Case(argv, of_model | files | of_more | {"general.jsonl": general})

    @property
    def adaptation(self) -> list[str]:
        """A command that adapts a model in ten steps."""
        argv = ["adapt", "many.jsonl", "--model", self.backbone, "--general", "general.jsonl", "--output-dir", "out"]
        return [*argv, "--max-length", "24", "--learn", "max_steps=1", "--align", "max_steps=1"]

    @property
    def corpus_of_work(self) -> dict[str, bytes]:
        """The files that it reads."""
        return {"many.jsonl": as_jsonl(good_rows(40)), "general.jsonl": as_jsonl(good_rows())}

    @functools.cached_property
    def work(self) -> dict[str, bytes]:
        """What it leaves in its folder of steps."""
        from lbr_st.cli.adapt import main

        with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
            for name, content in self.corpus_of_work.items():
                Path(name).write_bytes(content)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                main(self.adaptation[1:])
            return files_of(Path("out.work"), "out.work")

    def merge(self, draw: Any, drawn: list[str]) -> Case:
        one = st.one_of(st.sampled_from([(self.model, {}), (self.end, {}), (self.backbone, {})]), self.embedders)
        models = draw(st.one_of(st.just([(self.model, {}), (self.end, {})]), st.lists(one, min_size=1, max_size=3)))
        files: dict[str, bytes] = {}
        for _, of_model in models:
            files |= of_model
        more: list[str] = []
        if draw(st.booleans()):
            drawn = drawn if draw(st.booleans()) else []  # most flags are of --weight auto
        else:
            more, of_more = self.given(draw, general=self.sources)
            dev, of_dev = draw(self.sources)
            more += ["--weight", "auto", "--dev-data", dev]
            files |= of_dev | of_more
            if "--general" not in more:
                more += ["--general", dev]
        return Case(["merge", *(name for name, _ in models), "--output-dir", "out", *more, *drawn], files)

    def distill(self, draw: Any, drawn: list[str]) -> Case:
        model, of_model = draw(st.one_of(st.sampled_from([(self.model, {}), (self.bert, {})]), self.embedders))
        queries, files = draw(st.one_of(self.many, self.sources))
        student = draw(st.sampled_from(["table", "layers:1", *WORDS]))
        argv = ["distill", "--model", model, "--queries", queries, f"--student={student}", *drawn]
        return Case([*argv, "--max-steps", "1", "--output-dir", "out"], of_model | files)

    def recommend_train(self, draw: Any, drawn: list[str]) -> Case:
        """The choices, the items or the model are odd, or a flag is."""
        odd = draw(st.sampled_from(["choices", "items", "model", "flags"]))
        table, items = as_csv(choices()), as_csv([{"item_id": f"i{n}", "title": GOOD[n]} for n in range(8)])
        data, files = ("choices.csv", {"choices.csv": draw(mutated(table)) if odd == "choices" else table})
        if odd == "choices" and draw(st.booleans()):
            data, files = draw(self.sources)
        files = files | {"items.csv": draw(mutated(items)) if odd == "items" else items}
        model, of_model = draw(self.language_models) if odd == "model" else (self.backbone, {})
        argv = ["recommend", "train", "--model", model, "--data", data, "--items", "items.csv", "--output-dir", "out"]
        least = ["--dimensions", "4", "--recommender-steps", "2", "--rounds", "1", "--steps", "1", "--joint-steps", "1"]
        least += ["--batch-size", "4", "--max-length", "64"]
        return Case([*argv, *least, *(drawn if odd == "flags" else [])], files | of_model)

    @property
    def teachers(self) -> dict[str, Any]:
        """What one may learn from."""
        return {"teacher": self.embedders, "reranker": self.rerankers}

    def given(self, draw: Any, **sources: Any) -> tuple[list[str], dict[str, bytes]]:
        """Draw some of a command's other files or models: flags, and what lies in the folder."""
        argv: list[str] = []
        files: dict[str, bytes] = {}
        for name, source in sources.items():
            if draw(st.integers(0, 2)) == 0:
                place, found = draw(source)
                files |= {f"{name}/{each}": content for each, content in found.items()}
                argv += [f"--{name.replace('_', '-')}", f"{name}/{place}" if found else place]
        return argv, files

    def encode(self, draw: Any, drawn: list[str]) -> Case:
        (model, of_model), (data, files) = draw(self.embedders), draw(self.sources)
        return Case(["encode", "--model", model, "--data", data, "--output-dir", "out", *drawn], of_model | files)

    def search(self, draw: Any, drawn: list[str]) -> Case:
        (model, of_model), (data, files) = draw(self.embedders), draw(self.sources)
        fuse = draw(fused)
        return Case(
            ["search", "--model", model, "--data", data, *fuse, *drawn, draw(st.sampled_from(GOOD + ODD))],
            of_model | files,
        )

    def evaluate(self, draw: Any, drawn: list[str]) -> Case:
        (model, of_model), (data, files) = draw(self.embedders), draw(self.sources)
        more, of_more = self.given(draw, corpus_extra=self.sources, fuse_dev=self.sources)
        return Case(
            ["evaluate", "--model", model, "--data", data, *draw(fused), *more, *drawn], of_model | files | of_more
        )

    def inspect(self, draw: Any, drawn: list[str]) -> Case:
        (model, of_model), (data, files) = draw(self.embedders), draw(self.sources)
        texts = draw(st.lists(st.sampled_from(GOOD + ODD), max_size=2))
        if texts and draw(st.booleans()):
            return Case(["inspect", "--model", model, *drawn, *texts], of_model)
        return Case(["inspect", "--model", model, "--data", data, *drawn, *texts], of_model | files)

    def verify(self, draw: Any, drawn: list[str]) -> Case:
        model, files = draw(self.embedders)
        return Case(["verify", model, *drawn], files)

    def export(self, draw: Any, drawn: list[str]) -> Case:
        model, files = draw(damaged_folder(self.saved, "model"))
        return Case(
            ["export", "--model", model, "--output-dir", "out", *drawn], files
        )  # --to is drawn, or it is missing

    def publish_card(self, draw: Any, drawn: list[str]) -> Case:
        model, files = draw(self.embedders)
        return Case(["publish", "card", "--model", model, *drawn], files)

    def publish_push(self, draw: Any, drawn: list[str]) -> Case:
        model, files = draw(self.embedders)
        return Case(
            ["publish", "push", "--model", model, "--repo-id", draw(st.sampled_from(["a/b", *WORDS])), *drawn], files
        )

    def publish_submit(self, draw: Any, drawn: list[str]) -> Case:
        model, files = draw(self.embedders)
        name = draw(st.sampled_from(["a/b", *WORDS]))
        return Case(["publish", "submit", "--model", model, f"--name={name}", "--output-dir", "out", *drawn], files)

    def data_prepare(self, draw: Any, drawn: list[str]) -> Case:
        data, files = draw(self.sources)
        return Case(["data", "prepare", data, "--output-dir", "made", "--num-proc", "1", *drawn], files)

    def data_mine(self, draw: Any, drawn: list[str]) -> Case:
        (model, of_model), (data, files) = draw(self.embedders), draw(self.sources)
        return Case(["data", "mine", data, "--model", model, "--output-dir", "mined", *drawn], of_model | files)

    def data_terms(self, draw: Any, drawn: list[str]) -> Case:
        (model, of_model), (data, files) = draw(self.language_models), draw(self.sources)
        argv = ["data", "terms", "--data", data, "--model", model, "--output", "terms.jsonl", *drawn]
        return Case(argv, of_model | files)

    def data_queries(self, draw: Any, drawn: list[str]) -> Case:
        data, files = draw(self.corpora)
        writers = st.one_of(st.just((self.chat, {})), self.language_models)
        more, of_more = self.given(draw, pairs=self.sources, model=writers)
        if not more and draw(st.booleans()):
            more = draw(of_server)
        most = ["--most", "3"] if "--model" in more else []
        return Case(["data", "queries", data, "--output-dir", "asked", *most, *more, *drawn], files | of_more)

    def data_filter(self, draw: Any, drawn: list[str]) -> Case:
        (queries, of_queries), (data, files) = draw(self.some_queries), draw(self.corpora)
        finders = st.one_of(st.just(("bm25", {})), self.embedders)
        by: dict[str, Any] = draw(st.sampled_from([{"model": finders}, {"reranker": self.rerankers}]))
        more, of_more = self.given(draw, **by)
        argv = ["data", "filter", queries, "--data", data, "--output-dir", "kept", *more, *drawn]
        return Case(argv, files | of_queries | of_more)

    def serve(self, draw: Any, drawn: list[str]) -> Case:
        """The model, the data or a flag is odd, or what is asked: else few servers would be asked."""
        odd = draw(st.sampled_from(["model", "data", "encoded", "flags", *["asked"] * 6]))
        own = [(self.model, {}), (self.model, {}), (self.bert, {})]
        model, of_model = draw(self.embedders if odd == "model" else st.sampled_from(own))
        data, files = draw(self.sources if odd == "data" else self.texts)
        if odd == "encoded":
            data, files = draw(st.one_of(st.just(("encoded", self.encoded)), damaged_folder(self.encoded, "encoded")))
        argv = ["serve", "--model", model, "--port", "0"]
        argv += ["--data", data] if draw(st.integers(0, 4)) else []
        more, of_more = self.given(draw, compare=st.just((self.bert, {}))) if "--data" in argv else ([], {})
        asked = {fuzz_serving.REQUESTS: draw(fuzz_serving.steps(files))}
        return Case([*argv, *more, *(drawn if odd == "flags" else [])], of_model | files | of_more | asked)

    @functools.cached_property
    def encoded(self) -> dict[str, bytes]:
        """A corpus that was encoded."""
        from lbr_st.cli.encode import main

        with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
            Path("passages.jsonl").write_bytes(as_jsonl(passages()))
            argv = ["--model", self.model, "--data", "passages.jsonl", "--output-dir", "encoded", "--with-text"]
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                main(argv)
            return files_of(Path("encoded"), "encoded")

    def data_check(self, draw: Any, drawn: list[str]) -> Case:
        (data, files), (other, more) = draw(self.sources), draw(self.sources)
        return Case(["data", "check", data, other, *drawn], files | more)


NAMES_OF_COMMANDS = [
    "data prepare", "data queries", "data filter", "data check", "data mine", "data terms", "learn", "align", "adapt",
    "merge", "distill", "recommend train", "encode", "search", "serve", "evaluate", "inspect", "verify", "export",
    "publish card", "publish push", "publish submit",
]  # fmt: skip
