"""What several test modules make: tiny models of every family, their tokenizers, a few pairs, runs that are killed."""

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    BertTokenizer,
    GemmaTokenizer,
    GPT2Tokenizer,
    GPTNeoXTokenizer,
    LlamaForCausalLM,
    LlamaTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Tokenizer,
    TokenizersBackend,
)

from lbr_st.learning.config import LearnConfig
from lbr_st.learning.examples import ExampleMaker, build_examples
from lbr_st.model.cutoff import BOTTLENECK, PREFIX, SOURCE, TARGET, cutoff_mask
from lbr_st.training.resume import last_whole_checkpoint

ROOT = Path(__file__).parent.parent

# The argument that gives a model its cache: transformers 5.24 renamed it.
CACHE = "cache" if "cache" in inspect.signature(LlamaForCausalLM.forward).parameters else "past_key_values"

TEXTS = [
    "What causes high blood pressure?",
    "Salt, weight and age raise blood pressure; so does stress.",
    "How is anaemia treated?",
    "Anaemia is treated with iron, folic acid or vitamin B12.",
    "Sorting a list takes n log n comparisons.",
    "Ein kurzer deutscher Satz mit Umlauten: äöü ß.",
]

PAIRS = [{"query": q, "document": d} for q, d in zip(TEXTS[::2], TEXTS[1::2], strict=True)]
SHORT_PAIR = {"query": "why", "document": "so"}
LONG_PAIR = {"query": "why " * 50, "document": "because " * 50}

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # large enough that differences between tokens show in float32
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
WINDOW = 4
MIXED = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": WINDOW}

# Name: model type, what its configuration adds to SHAPE, its tokenizer.
FAMILIES = {
    "qwen2": ("qwen2", {}, "qwen2"),
    "qwen2-sliding": ("qwen2", {"use_sliding_window": True, **MIXED}, "qwen2"),
    "qwen3": ("qwen3", {}, "qwen2"),
    "llama": ("llama", {}, "llama3"),
    "mistral-sliding": ("mistral", {"sliding_window": WINDOW}, "llama2"),
    "gemma3": ("gemma3_text", MIXED, "gemma"),
    "phi3": ("phi3", {"sliding_window": WINDOW}, "llama2"),
    "gpt-neox": ("gpt_neox", {}, "gpt-neox"),
    "gpt2": ("gpt2", {}, "gpt2"),
    "olmo2": ("olmo2", {}, "gpt2"),
    "smollm3": ("smollm3", {"use_sliding_window": True, **MIXED}, "qwen2"),
}


def tiny(family: str, attention: str = "sdpa", layers: int = 2, **kwargs) -> PreTrainedModel:
    """Return a random causal language model of a family, 32 wide."""
    model_type, extra, _ = FAMILIES[family]
    settings = {"vocab_size": 50, **SHAPE, **extra, "num_hidden_layers": layers, **kwargs}
    if "layer_types" in settings:
        settings["layer_types"] = settings["layer_types"][:layers]
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(model_type, **settings), attn_implementation=attention
    ).eval()


def make_tokenizer(kind: str) -> PreTrainedTokenizerBase:
    """Return a tokenizer trained on TEXTS, built as the family's own is."""
    byte_level = {"qwen2": Qwen2Tokenizer, "gpt2": GPT2Tokenizer, "gpt-neox": GPTNeoXTokenizer}
    if kind in byte_level:
        return byte_level[kind]().train_new_from_iterator(TEXTS * 20, vocab_size=320)
    if kind == "llama3":  # byte-level with BOS
        backend = Qwen2Tokenizer().train_new_from_iterator(TEXTS * 20, vocab_size=320).backend_tokenizer
        backend.add_special_tokens(["<s>"])
        template = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", backend.token_to_id("<s>"))]
        )
        backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
        return TokenizersBackend(tokenizer_object=backend, eos_token="<|endoftext|>", bos_token="<s>")
    specials = {
        "llama2": ["<unk>", "<s>", "</s>"],
        "gemma": ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"],
    }[kind]
    trained = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=520, special_tokens=specials + bytes_, show_progress=False)
    trained.train_from_iterator(TEXTS * 20, trainer)
    model = json.loads(trained.to_str())["model"]
    class_ = {"llama2": LlamaTokenizer, "gemma": GemmaTokenizer}[kind]
    return class_(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]], add_bos_token=True)


def make_backbone(folder, family: str = "qwen2", tied: bool = True, layers: int = 2, **kwargs) -> str:
    """Save a tiny random causal language model with its tokenizer, as AutoModel users have it."""
    tokenizer = make_tokenizer(FAMILIES[family][2])
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = tiny(family, layers=layers, vocab_size=len(tokenizer), tie_word_embeddings=tied, **ids, **kwargs)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


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


# One process that starts main(argv) of a module.
RUN = "import sys, importlib; importlib.import_module(sys.argv[1]).main(sys.argv[2:])"


def kill_after_checkpoint(module: str, argv: list[str], output_dir: Path, step: int) -> None:
    """Start a command and kill it (SIGKILL) once the checkpoint of ``step`` is whole."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", RUN, module, *argv], env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if str(last_whole_checkpoint(output_dir)).endswith(f"-{step}"):
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"
    assert not (output_dir / "config.json").exists()


def same_weights(first: Path, second: Path) -> bool:
    one, two = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert one.keys() == two.keys()
    return all(torch.equal(one[name], two[name]) for name in one)


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
