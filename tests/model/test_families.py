"""The other families of transformers, end to end: what docs/studies/families.md says of each (``make test-slow``)."""

import numpy as np
import pytest
import torch
from helpers import NEW, SHAPE, TEXTS, WINDOW, examples_of, make_tokenizer, masked_greedy
from transformers import AutoConfig, AutoModelForCausalLM

import lbr_st
from lbr_st.errors import InputError
from lbr_st.learning.batches import collate
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.model.encoding import TextEncoder
from lbr_st.model.self_checks import check_no_leak, check_packing

pytestmark = [pytest.mark.slow, pytest.mark.whole_run]

SLIDING = {"sliding_window": WINDOW}
WORK = {
    "gemma": {}, "gemma2": SLIDING, "gemma4_text": {}, "mistral": {"sliding_window": None}, "mixtral": {},
    "ministral": SLIDING, "ministral3": {}, "phi": {}, "olmo": {}, "olmo3": SLIDING, "qwen2_moe": {}, "qwen3_moe": {},
    "starcoder2": SLIDING, "cohere": {}, "cohere2": SLIDING, "granite": {}, "granitemoe": {}, "gpt_bigcode": {},
    "gpt_oss": SLIDING, "mpt": {}, "stablelm": {}, "nemotron": {}, "exaone4": SLIDING, "ernie4_5": {}, "glm": {},
    "glm4": {}, "seed_oss": {}, "biogpt": {}, "hunyuan_v1_dense": {}, "arcee": {}, "apertus": {}, "helium": {},
    "gptj": {"rotary_dim": 8}, "codegen": {"rotary_dim": 8},
}  # fmt: skip
LEAK = ["qwen3_next", "qwen3_5_text", "falcon_h1", "jamba", "minimax", "rwkv", "recurrent_gemma"]
TAKE_NO_MASK = ["bloom", "opt", "llama4_text", "mamba"]
# They keep a state, and not keys and values alone.
SHARE_NO_PROMPT = [*LEAK, "mamba"]


def make_model(folder, model_type, extra):
    tokenizer = make_tokenizer("qwen2")
    settings = SHAPE | {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0} | extra
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, tie_word_embeddings=False, **settings))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return lbr_st.from_backbone(str(folder), num_bottleneck_tokens=2, max_seq_length=24).eval()


@pytest.mark.parametrize("model_type", WORK)
def test_check_train_save_generate(tmp_path, model_type):
    model = make_model(tmp_path / "backbone", model_type, WORK[model_type])
    module = model[0]
    check_no_leak(module.model)
    check_packing(module.model)
    batch = collate(list(examples_of([{"query": TEXTS[0], "document": TEXTS[1]}], model)))
    CutOffModel(module.model)(**batch)["loss"].backward()
    lbr_st.save(model, tmp_path / "model")
    answers = module.generate(TEXTS, through_bottleneck=True, max_new_tokens=NEW, do_sample=False)
    assert answers == [masked_greedy(module, text) for text in TEXTS]


@pytest.mark.parametrize("model_type", [*WORK, *SHARE_NO_PROMPT, "bloom", "opt"])
def test_encoder(tmp_path, model_type):
    """With a shared prompt where the family can, padded on the right: the vectors of each text alone."""
    extra = {"num_hidden_layers": 4} if model_type == "recurrent_gemma" else WORK.get(model_type, {})
    model = make_model(tmp_path, model_type, extra)
    encoder = TextEncoder(model, 60, tried_from=1)
    found = encoder.encode(TEXTS, prompt="Read: q7 ").numpy()
    expected = np.stack([model.encode(text, prompt="Read: q7 ") for text in TEXTS])
    assert np.abs(found - expected).max() < 1e-5 * max(1, np.abs(expected).max())
    [shared] = encoder._shared.values()
    assert (shared is None) == (model_type in SHARE_NO_PROMPT)


@pytest.mark.parametrize("model_type", [*LEAK, *TAKE_NO_MASK])
def test_refused(tmp_path, model_type):
    extra = {"num_hidden_layers": 4} if model_type == "recurrent_gemma" else {}
    message = "leaks from X to Y" if model_type in LEAK else "the information cut-off cannot be used"
    model = make_model(tmp_path, model_type, extra)
    with pytest.raises(InputError, match=message):
        check_no_leak(model[0].model)
