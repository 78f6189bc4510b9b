"""What several test modules make: a few pairs, models of other kinds, runs that are killed; tiny models are beside."""

import importlib
import inspect
import json
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tiny_models import (  # tests import them from here
    FAMILIES,
    SHAPE,  # noqa: F401
    TEXTS,
    WINDOW,  # noqa: F401
    make_backbone,
    make_tokenizer,  # noqa: F401
    tiny,  # noqa: F401
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    LlamaForCausalLM,
)

import lbr_st
from lbr_st.data.rows import read_rows
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.examples import ExampleMaker, build_examples
from lbr_st.model.cutoff import BOTTLENECK, PREFIX, SOURCE, TARGET, cutoff_mask
from lbr_st.training.resume import last_whole_checkpoint

ROOT = Path(__file__).parent.parent
# Where the package lies that is tested, for a Python that a test starts: that of a mutant is a copy.
PACKAGE = Path(lbr_st.__file__).parent.parent

# The argument that gives a model its cache: transformers 5.24 renamed it.
CACHE = "cache" if "cache" in inspect.signature(LlamaForCausalLM.forward).parameters else "past_key_values"

PAIRS = [{"query": q, "document": d} for q, d in zip(TEXTS[::2], TEXTS[1::2], strict=True)]
SHORT_PAIR = {"query": "why", "document": "so"}
LONG_PAIR = {"query": "why " * 50, "document": "because " * 50}


def examples_of(records, model, objective="sft", **options):
    """Return the examples that stage 1 makes of records."""
    return build_examples(records, ExampleMaker(model, objective, **options))


def lora_of(rank, **settings):
    """Return a configuration that asks for LoRA of a rank."""
    return LearnConfig(model="none", data=["none"], output_dir="none", lora_rank=rank, **settings)


MANY = [{"question": f"{p['query']} {i}", "answer": f"{i} {p['document']}"} for i in range(8) for p in PAIRS]


def make_bert(folder, dropout=0.1):
    """Save a tiny sentence-transformers model that has nothing to do with this package."""
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789?.,;:"]
    (folder / "vocab.txt").write_text("\n".join([*words, *(f"##{word}" for word in words[5:])]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=2 * len(words), **shape, **dropouts)).save_pretrained(folder)
    transformer = Transformer(str(folder))
    model = SentenceTransformer(modules=[transformer, Pooling(16, pooling_mode="mean"), Normalize()])
    model.save_pretrained(str(folder / "st"))
    return str(folder / "st")


def fork(work: Callable[[], None], stdout: int | None = None, stderr: int | None = None) -> BaseProcess:
    """Start a process that has what this one imported: a new Python takes seconds for that before it does anything.

    Args:
        work: What it does.
        stdout: Descriptor of the file that its output goes to; default that of this process.
        stderr: The same of what it says of itself.
    """

    def run() -> None:
        for number, name, other in ((1, "stdout", stdout), (2, "stderr", stderr)):
            if other is not None:
                os.dup2(other, number)
                setattr(sys, name, open(number, "w", closefd=False, buffering=1))  # noqa: SIM115
        logging.root.handlers.clear()  # those of pytest
        signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
        work()

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


CHAT = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def make_chat_backbone(folder):
    """Save a tiny language model with a chat template."""
    made = make_backbone(folder, max_position_embeddings=1024)
    tokenizer = AutoTokenizer.from_pretrained(made)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(made)
    return made


def make_reranker(folder, activation=None, labels=1):
    """Save a tiny cross-encoder."""
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join([*words, *(f"##{word}" for word in words[5:])]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    config = BertConfig(vocab_size=2 * len(words), num_labels=labels, initializer_range=2.0, **shape)
    BertForSequenceClassification(config).save_pretrained(folder)
    CrossEncoder(str(folder), activation_fn=activation).save_pretrained(str(folder / "saved"))
    return str(folder / "saved")


class Server:
    """A server that answers as it is told, and keeps what it was asked.

    Attributes:
        answer: Function of what a user asks, that returns the answer, or a status with a body and headers.
        asked: Bodies and headers of all requests, in order.
    """

    def __init__(self):
        self.answer = lambda content: "What is it?"
        self.asked = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append((self.path, body, dict(self.headers)))
                found = server.answer(body["messages"][0]["content"])
                if isinstance(found, str):
                    choice = {"message": {"role": "assistant", "content": found}, "finish_reason": "stop"}
                    found = 200, json.dumps({"choices": [choice]}), {}
                status, data, headers = found
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(data.encode()))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data.encode())

            def do_GET(self):  # what follows a redirect
                server.asked.append((self.path, {}, dict(self.headers)))
                self.send_error(404)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


def kill_after_checkpoint(module: str, argv: list[str], output_dir: Path, step: int) -> None:
    """Start a command and kill it (SIGKILL) once the checkpoint of ``step`` is whole."""
    process = fork(lambda: importlib.import_module(module).main(argv))
    deadline = time.monotonic() + 120
    while process.is_alive() and time.monotonic() < deadline:
        if str(last_whole_checkpoint(output_dir)).endswith(f"-{step}"):
            break
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "the run ended before it was killed"
    assert not (output_dir / "config.json").exists()


def same_weights(first: Path, second: Path) -> bool:
    one, two = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert one.keys() == two.keys()
    return all(torch.equal(one[name], two[name]) for name in one)


def log_of(folder: Path) -> list[dict]:
    """Return the log of a finished run."""
    return json.loads((folder / "training_log.json").read_text())


def values(log: list[dict], name: str) -> list[tuple[int, float]]:
    """Return what a log says of one thing, with the steps."""
    return [(entry["step"], entry[name]) for entry in log if name in entry]


def cut_off(folder: Path, step: int) -> None:
    """Leave what a run had written when it was killed right after the checkpoint of a step."""
    (folder / "config.json").unlink()
    for checkpoint in (folder / "checkpoints").glob("checkpoint-*"):
        if int(checkpoint.name.rpartition("-")[2]) > step:
            shutil.rmtree(checkpoint)


NEW = 6


def masked_greedy(module, text):
    """Independent computation: no cache, the whole sequence under stage 1's own mask for every token."""
    [ids] = module.tokenize_rows([text])
    k = sum(id_ in module.bottleneck_token_ids for id_ in ids)
    parts = [PREFIX] * module.num_prefix_tokens
    parts += [SOURCE] * (len(ids) - len(parts) - k) + [BOTTLENECK] * k
    answer = []
    for _ in range(NEW):
        row = torch.tensor([ids + answer])
        segments = torch.tensor([parts + [TARGET] * len(answer)])
        embeddings = module.model.get_input_embeddings()(row)
        mask = cutoff_mask(module.model.config, embeddings, torch.ones_like(row), segments)
        with torch.no_grad():
            logits = module.model(input_ids=row, attention_mask=mask, use_cache=False).logits[0, -1]
        logits[module.bottleneck_token_ids] = -torch.inf
        answer.append(int(logits.argmax()))
        if answer[-1] == module.model.config.eos_token_id:
            break
    return module.tokenizer.decode(answer, skip_special_tokens=True)


# BOS, X=6, Z=2, Y=3.
PARTS = [PREFIX] + [SOURCE] * 6 + [BOTTLENECK] * 2 + [TARGET] * 3


def random_ids(seed: int, rows: int = 1) -> torch.Tensor:
    return torch.randint(0, 50, (rows, len(PARTS)), generator=torch.Generator().manual_seed(seed))


HAVE_FLEX = [family for family in FAMILIES if family != "gpt2"]  # transformers has none for GPT-2


class Sizes(TorchDispatchMode):
    """Keeps how many bytes each piece of memory has that an operation of torch returns meanwhile, by its address."""

    def __init__(self):
        super().__init__()
        self.of = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for each in tree_leaves(found):
            if isinstance(each, torch.Tensor):
                memory = each.untyped_storage()
                self.of[memory.data_ptr()] = max(memory.nbytes(), self.of.get(memory.data_ptr(), 0))
        return found


def values_in(path, **kwargs) -> list[dict]:
    """Return what the rows of a file hold, as `read_rows` reads them."""
    return [row.values for row in read_rows(path, **kwargs)]


def as_jsonl(rows) -> str:
    """Return JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
