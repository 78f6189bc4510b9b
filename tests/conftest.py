import copy
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    TokenizersBackend,
)

import lbr_st

TEXTS = [
    "What causes high blood pressure?",
    "Salt, weight and age raise blood pressure; so does stress.",
    "How is anaemia treated?",
    "Anaemia is treated with iron, folic acid or vitamin B12.",
    "Sorting a list takes n log n comparisons.",
    "Ein kurzer deutscher Satz mit Umlauten: äöü ß.",
]

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # large enough that differences between tokens show in float32
}
FAMILIES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}


def make_backbone(folder, family: str = "qwen2", tied: bool = True, bos: bool = False, layers: int = 2) -> str:
    """Save a tiny random causal language model with a tokenizer trained on TEXTS, as AutoModel users have it."""
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(TEXTS * 20, vocab_size=320)
    if bos:
        from tokenizers import processors

        backend = tokenizer.backend_tokenizer
        backend.add_special_tokens(["<s>"])
        template = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", backend.token_to_id("<s>"))]
        )
        backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
        tokenizer = TokenizersBackend(tokenizer_object=backend, eos_token="<|endoftext|>", bos_token="<s>")
    config_class, model_class = FAMILIES[family]
    shape = SHAPE | {"num_hidden_layers": layers}
    torch.manual_seed(0)
    config = config_class(vocab_size=len(tokenizer), tie_word_embeddings=tied, **shape)
    model_class(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def backbone(tmp_path_factory) -> str:
    """Directory of a tiny tied Qwen2 without BOS."""
    return make_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="session")
def _shared_model(backbone):
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24, dtype=torch.float32)
    return model.eval()


@pytest.fixture
def model(_shared_model):
    """A tiny model with two bottleneck tokens, longest input 24 tokens; a fresh copy for each test."""
    return copy.deepcopy(_shared_model)
