"""LoRA: what trains, what stays, and that the merged model is the adapted one."""

import copy
import json
import shutil
from dataclasses import replace

import pytest
import torch
from helpers import FAMILIES, PAIRS, TEXTS, examples_of, lora_of, make_backbone, same_weights
from safetensors.torch import load_file

import lbr_st
from lbr_st.alignment.config import AlignConfig
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning.batches import collate
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.run import learn
from lbr_st.model.domain_tokens import add_domain_tokens
from lbr_st.training.lora import add_lora, load_adapter, merge, save_adapter


def scramble(model):
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)


@pytest.mark.parametrize(("family", "tied"), [*((family, True) for family in FAMILIES), ("qwen2", False)])
def test_merged_is_adapted(tmp_path, family, tied):
    model = lbr_st.from_backbone(make_backbone(tmp_path, family, tied=tied), num_bottleneck_tokens=2, max_seq_length=24)
    module = model.eval()[0]
    before = {name: p.detach().clone() for name, p in module.model.named_parameters()}
    ids = module.bottleneck_token_ids
    adapter = add_lora(module, lora_of(2))
    trained = {name for name, p in module.model.named_parameters() if p.requires_grad}
    assert all("lora_" in name or "trainable_tokens" in name for name in trained)
    scramble(module.model)
    batch = collate(list(examples_of(PAIRS, model, "sft")))
    training_model = CutOffModel(module.model).eval()
    with torch.no_grad():
        vectors, losses = torch.tensor(model.encode(TEXTS)), training_model(**batch)["loss_sums"]
        assert merge(adapter) is module.model
        assert (torch.tensor(model.encode(TEXTS)) - vectors).abs().max() < 1e-5
        assert ((training_model(**batch)["loss_sums"] - losses) / losses).abs().max() < 1e-5
    after = dict(module.model.named_parameters())
    assert after.keys() == before.keys()
    embeddings = module.model.get_input_embeddings().weight
    old = next(before[name] for name, p in after.items() if p is embeddings)
    rest = [row for row in range(len(old)) if row not in ids]
    assert torch.equal(embeddings[rest], old[rest])
    assert (embeddings[ids] - old[ids]).abs().min(dim=1).values.max() > 0
    assert any(not torch.equal(p, before[name]) for name, p in after.items() if p is not embeddings)
    assert all(p.requires_grad for p in after.values())


@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_domain_tokens_train(tmp_path, tied):
    """In the embeddings and in the head, which is asked for them; no other row does."""
    backbone = make_backbone(tmp_path, "qwen3", tied=tied)
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24)
    module = model.eval()[0]
    ids = add_domain_tokens(module, ["acetylsalicylic acid", "zzyzx"])
    layers = [module.model.get_input_embeddings(), module.model.get_output_embeddings()]
    before = [layer.weight.detach().clone() for layer in layers]
    adapter = add_lora(module, lora_of(2))
    records = [{"query": f"{p['query']} zzyzx", "document": f"acetylsalicylic acid {p['document']}"} for p in PAIRS]
    training_model = CutOffModel(module.model, read_out_weight=1.0).train()
    training_model(**collate(list(examples_of(records, model, "sft"))))["loss"].backward()
    gradients = {name: p.grad for name, p in module.model.named_parameters() if "trainable_tokens" in name}
    assert len(gradients) == (1 if tied else 2)
    assert all(gradient.abs().sum(dim=1).count_nonzero() >= 2 for gradient in gradients.values())
    scramble(module.model)
    with torch.no_grad():
        vectors = torch.tensor(model.encode([*TEXTS, "zzyzx"]))
        merge(adapter)
        assert (torch.tensor(model.encode([*TEXTS, "zzyzx"])) - vectors).abs().max() < 1e-5
    new = [[*module.bottleneck_token_ids, *ids], [*module.bottleneck_token_ids, *ids] if tied else ids]
    after = [module.model.get_input_embeddings(), module.model.get_output_embeddings()]
    for layer, old, changed in zip(after, before, new, strict=True):
        same = (layer.weight == old).all(dim=1)
        assert sorted((~same).nonzero().flatten().tolist()) == sorted(changed)


def test_stage_2_asks_nothing_of_the_head(tmp_path):
    """A row that no loss reaches would stop several processes, each of which waits for its gradient."""
    model = lbr_st.from_backbone(make_backbone(tmp_path, "qwen3", tied=False), max_seq_length=24)
    add_domain_tokens(model[0], ["zzyzx"])
    config = AlignConfig(model="none", data="none", output_dir="none", lora_rank=2)
    add_lora(model[0], config)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert any("embed_tokens" in name for name in trained) and not any("lm_head" in name for name in trained)


def test_saved_and_loaded(model, tmp_path):
    other = copy.deepcopy(model)
    first, second = add_lora(model[0], lora_of(2)), add_lora(other[0], lora_of(2))
    scramble(model[0].model)
    save_adapter(first, tmp_path)
    assert {file.suffix for file in tmp_path.iterdir()} <= {".json", ".safetensors", ".md"}
    assert sum(len(t) for t in load_file(tmp_path / "adapter_model.safetensors").values()) < 2000
    load_adapter(second, tmp_path)
    assert (model.encode(TEXTS) == other.encode(TEXTS)).all()


def test_lora_run_resumes_to_the_same_weights(backbone, tmp_path):
    """The run is cut off by deleting what came after its checkpoint, and goes on."""
    write_jsonl(tmp_path / "train.jsonl", PAIRS * 8)
    config = LearnConfig(
        model=backbone,
        data=[str(tmp_path / "train.jsonl")],
        output_dir=str(tmp_path / "out"),
        max_length=24,
        learning_rate=1e-2,
        max_steps=8,
        save_steps=5,
        per_device_train_batch_size=4,
        lora_rank=2,
        lora_alpha=4,
    )
    out = tmp_path / "out"
    learn(config)
    assert (out / "checkpoints" / "checkpoint-5" / "adapter_model.safetensors").is_file()
    shutil.copytree(out, tmp_path / "straight")
    for name in ("config.json", "model.safetensors", "checkpoints/checkpoint-8/trainer_state.json"):
        (out / name).unlink()
    learn(replace(config, resume=True))
    assert same_weights(tmp_path / "straight", out)
    assert "PeftModel" not in json.loads((out / "config.json").read_text())["architectures"]
    [stage] = lbr_st.load(str(out))[0].history
    assert (stage["lora_rank"], stage["lora_alpha"]) == (2, 4)


@pytest.mark.parametrize("settings", [{"rank": 0}, {"rank": 2, "lora_alpha": 0}, {"rank": 2, "lora_dropout": 1.0}])
def test_refusals(settings):
    with pytest.raises(InputError, match="LoRA needs a rank from 1 to 65536, an alpha of at least 1"):
        lora_of(**settings)
