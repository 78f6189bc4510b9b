"""An adapter named as a model is opened on its base and merged, or refused by name; so are quantized checkpoints."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from helpers import MANY, make_backbone, make_bert, same_weights
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

import lbr_st
from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.run import align
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.run import learn
from lbr_st.model.contract import fingerprint
from lbr_st.model.named import count_parameters
from lbr_st.model.opening import open_model, open_sentence_transformer
from lbr_st.model.trainable import check_can_be_trained
from lbr_st.model.verify import verify
from lbr_st.training.lora import save_adapter

LAYER = "model.layers.0.mlp.up_proj.weight"


def make_adapter(base, folder, config=None, tokenizer=None):
    """Save an adapter on a base whose update is not zero; return its directory."""
    config = config or LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, target_modules=["up_proj", "q_proj"])
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name or "ia3_" in name:
            torch.nn.init.normal_(parameter)
    adapted.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return str(folder)


def edit(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return str(folder)


@pytest.fixture
def lora(backbone, tmp_path):
    return make_adapter(backbone, tmp_path / "lora")


def merged_by_hand(backbone, lora):
    """Independent computation: W + B A alpha / r."""
    update = load_file(f"{lora}/adapter_model.safetensors")
    a, b = (update[f"base_model.model.{LAYER.replace('weight', f'lora_{part}.weight')}"] for part in "AB")
    return load_file(f"{backbone}/model.safetensors")[LAYER] + (b @ a) * 4 / 2


def test_an_adapter_is_merged_into_its_base(backbone, lora):
    model = lbr_st.from_backbone(lora, max_seq_length=24, dtype=torch.float32)
    weights = dict(model[0].model.named_parameters())
    torch.testing.assert_close(weights[LAYER], merged_by_hand(backbone, lora))
    assert not torch.equal(weights[LAYER], load_file(f"{backbone}/model.safetensors")[LAYER])
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in weights.values())
    assert not any("lora" in name for name in weights)
    assert count_parameters(lora) == count_parameters(backbone)
    assert open_model(lora, max_seq_length=24, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_with_the_base_beside_it(backbone, lora, tmp_path):
    """A directory that holds both; transformers puts the adapter into the model, unmerged and frozen."""
    shutil.copytree(backbone, tmp_path / "both")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(f"{lora}/{file}", tmp_path / "both")
    edit(tmp_path / "both", base_model_name_or_path="/gone/long/ago")
    model = lbr_st.from_backbone(str(tmp_path / "both"), max_seq_length=24, dtype=torch.float32)
    weights = dict(model[0].model.named_parameters())
    torch.testing.assert_close(weights[LAYER], merged_by_hand(backbone, lora))
    assert all(parameter.requires_grad for parameter in weights.values())
    lbr_st.save(model, tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("adapter*"))


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_update_of_a_weight_that_is_shared_is_of_its_own_part(backbone, tmp_path, target):
    """The head of a tied model is its embeddings too, and an update of one is none of the other."""
    model = AutoModelForCausalLM.from_pretrained(backbone, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", target]))
    draw = torch.Generator().manual_seed(1)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
    adapted.save_pretrained(tmp_path / "adapter")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        expected = adapted.eval()(ids).logits
        lbr_st.save(lbr_st.from_backbone(str(tmp_path / "adapter"), max_seq_length=24), tmp_path / "saved")
        found = lbr_st.load(str(tmp_path / "saved"))[0].model.eval()(ids).logits[..., : expected.shape[-1]]
    assert torch.allclose(found, expected, atol=1e-4)
    verify(tmp_path / "saved")


def test_an_adapter_with_tokens_of_its_own(backbone, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    tokenizer.add_tokens(["<|user|>"], special_tokens=True)
    lora = make_adapter(backbone, tmp_path / "lora", tokenizer=tokenizer)
    model = lbr_st.from_backbone(lora, max_seq_length=24)
    assert model[0].tokenizer.convert_tokens_to_ids("<|user|>") == len(tokenizer) - 1
    assert model.encode("<|user|> hello").shape == (32,)


def test_an_adapter_on_a_model_of_this_package(model, tmp_path):
    """Trained with peft on what stage 1 left: the bottleneck tokens stay what they are."""
    lbr_st.save(model, tmp_path / "stage1")
    lora = make_adapter(str(tmp_path / "stage1"), tmp_path / "lora")
    opened = open_model(lora)
    assert (opened[0].num_bottleneck_tokens, opened.max_seq_length) == (2, 24)
    torch.testing.assert_close(
        dict(opened[0].model.named_parameters())[LAYER], merged_by_hand(tmp_path / "stage1", lora)
    )


def test_both_stages_train_from_an_adapter(lora, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", MANY)
    settings = {"max_length": 24, "max_steps": 1, "learning_rate": 0.0, "model": lora}
    learn(LearnConfig(data=[str(tmp_path / "train.jsonl")], output_dir=str(tmp_path / "learned"), **settings))
    align(AlignConfig(data=str(tmp_path / "train.jsonl"), output_dir=str(tmp_path / "aligned"), **settings))
    assert same_weights(tmp_path / "learned", tmp_path / "aligned")
    lbr_st.save(lbr_st.from_backbone(lora, max_seq_length=24, dtype=torch.float32), tmp_path / "opened")
    found, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("learned", "opened"))
    assert torch.equal(found[LAYER], expected[LAYER])


def test_ia3_is_merged_too(backbone, tmp_path):
    config = IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj", "up_proj"], feedforward_modules=["up_proj"])
    model = lbr_st.from_backbone(make_adapter(backbone, tmp_path / "ia3", config), max_seq_length=24)
    before = load_file(f"{backbone}/model.safetensors")[LAYER]
    assert not torch.equal(dict(model[0].model.named_parameters())[LAYER], before)


def refusal(name):
    with pytest.raises(InputError) as refused:
        open_model(str(name), max_seq_length=24)
    with pytest.raises(InputError) as early:
        check_can_be_trained(str(name), 24)
    assert str(early.value) == str(refused.value)  # before any data are read
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("task", ["SEQ_CLS", "FEATURE_EXTRACTION", "SEQ_2_SEQ_LM", "TOKEN_CLS"])
def test_adapters_for_other_tasks_are_refused(lora, tmp_path, task):
    name = edit(tmp_path / "lora", task_type=task)
    assert refusal(name) == (
        f"{name} is an adapter for the task {task}, not of a language model (CAUSAL_LM); start from its base"
    )


def test_adapters_that_are_no_weights_are_refused(backbone, tmp_path):
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    name = make_adapter(backbone, tmp_path / "prompt", config)
    assert refusal(name).startswith(
        f"{name} is an adapter of the kind PROMPT_TUNING, which cannot be merged into the w"
    )
    for kind in ("PREFIX_TUNING", "P_TUNING", "ADAPTION_PROMPT"):
        assert f"of the kind {kind}, which" in refusal(edit(tmp_path / "prompt", peft_type=kind))


@pytest.mark.parametrize("base", ["./gone", "/gone/long/ago", "models/of/mine"])
def test_an_adapter_whose_base_is_gone(lora, tmp_path, base):
    name = edit(tmp_path / "lora", base_model_name_or_path=base)
    assert refusal(name) == (
        f"{name} is an adapter on {base}, which is not there; put it there, or write the name of its base as "
        "base_model_name_or_path into adapter_config.json"
    )


def test_an_adapter_whose_base_cannot_be_downloaded(lora, tmp_path):
    name = edit(tmp_path / "lora", base_model_name_or_path="nobody/never-published")
    assert refusal(name).startswith(f"{name} is an adapter on nobody/never-published, which cannot be opened: ")


@pytest.mark.parametrize("base", [None, "", 3])
def test_an_adapter_that_names_no_base(lora, tmp_path, base):
    assert "is an adapter that does not say what it was trained on; write the" in refusal(
        edit(tmp_path / "lora", base_model_name_or_path=base)
    )


def test_an_adapter_on_itself(lora, tmp_path):
    assert "is an adapter on itself" in refusal(edit(tmp_path / "lora", base_model_name_or_path=lora + "/"))


def test_adapters_on_each_other(lora, tmp_path):
    """Two that name each other, and one on these."""
    names = [str(tmp_path / name) for name in ("lora", "second", "third")]
    for name in names[1:]:
        shutil.copytree(lora, name)
    for name, base in zip(names, [names[1], names[0], names[0]], strict=True):
        edit(tmp_path / name, base_model_name_or_path=base)
    for name in names:
        assert refusal(name).startswith(f"{name} is an adapter on itself")


@pytest.mark.parametrize("content", ["{", "[]", "{}", "3", '{"peft_type": null, "task_type": []}'])
def test_an_adapter_config_that_cannot_be_read(lora, tmp_path, content):
    (tmp_path / "lora" / "adapter_config.json").write_text(content)
    assert lora in refusal(lora)


def test_an_adapter_that_does_not_fit(lora, tmp_path):
    """Of other shapes, with tensors that the base has no place for, without its weights."""
    fit = f"^the adapter {lora} does not fit its base "
    wide = make_backbone(tmp_path / "wide", hidden_size=64, head_dim=16)
    edit(tmp_path / "lora", base_model_name_or_path=wide)
    with pytest.raises(InputError, match=fit + f"{wide}: .*size mismatch"):
        open_model(lora, max_seq_length=24)
    gpt2 = make_backbone(tmp_path / "gpt2", family="gpt2")
    edit(tmp_path / "lora", base_model_name_or_path=gpt2)
    with pytest.raises(InputError, match=fit + f"{gpt2}: Target modules .* not found"):
        open_model(lora, max_seq_length=24)
    edit(tmp_path / "lora", base_model_name_or_path=make_backbone(tmp_path / "same"))
    weights = load_file(f"{lora}/adapter_model.safetensors")
    first = next(iter(weights))
    save_file({key: weight for key, weight in weights.items() if key != first}, f"{lora}/adapter_model.safetensors")
    with pytest.raises(InputError, match=fit + ".*: 1 tensors of one are not in the other, "):
        open_model(lora, max_seq_length=24)
    (tmp_path / "lora" / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match=f"{lora} is an adapter that cannot be read: .*: not whole"):
        open_model(lora, max_seq_length=24)


def test_what_does_not_fit_is_refused_before_data_are_read(backbone, lora, tmp_path):
    """Of another shape, half of it, of a kind that has other tensors, and named otherwise than peft does."""
    check_can_be_trained(lora)
    file, fit = f"{lora}/adapter_model.safetensors", f"^the adapter {lora} does not fit its base .*"
    weights = load_file(file)
    wide = make_backbone(tmp_path / "wide", hidden_size=64, head_dim=16)
    edit(tmp_path / "lora", base_model_name_or_path=wide)
    with pytest.raises(InputError, match=fit + "size mismatch, .* is of shape"):
        check_can_be_trained(lora)
    edit(tmp_path / "lora", base_model_name_or_path=str(backbone))
    for changed in (
        {key: weight for key, weight in weights.items() if ".layers.0." in key},
        weights | {"base_model.model.model.layers.9.mlp.up_proj.lora_A.weight": torch.zeros(2, 2)},
        {"base_model.model.model.layers.0.self_attn.q_proj.ia3_l": torch.ones(32, 1)},
    ):
        save_file(changed, file)
        with pytest.raises(InputError, match=fit + "tensors of one are not in the other, base_model.model.model.layer"):
            check_can_be_trained(lora)
    save_file({key.removeprefix("base_model.model."): weight for key, weight in weights.items()}, file)
    with pytest.raises(
        InputError, match="has model.layers.* and the names of peft begin with base_model.model. ; write"
    ):
        check_can_be_trained(lora)


def test_adapters_of_many_kinds_and_with_tokens_of_their_own_fit(backbone, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    tokenizer.add_tokens(["<|user|>"], special_tokens=True)
    dora = LoraConfig(
        task_type="CAUSAL_LM", r=2, target_modules=["up_proj"], use_dora=True, modules_to_save=["lm_head"]
    )
    pissa = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["up_proj"], init_lora_weights="pissa")
    for number, (config, own) in enumerate([(dora, None), (pissa, None), (None, tokenizer)]):
        check_can_be_trained(make_adapter(backbone, tmp_path / str(number), config, own))


def test_a_checkpoint_of_lora_is_no_model_of_its_own(backbone, tmp_path):
    """Its bottleneck rows are not in the base: refused by name."""
    from helpers import lora_of

    from lbr_st.training.lora import add_lora

    model = lbr_st.from_backbone(backbone, max_seq_length=24)
    save_adapter(add_lora(model[0], lora_of(2)), tmp_path / "checkpoint-5")
    edit(tmp_path / "checkpoint-5", base_model_name_or_path=backbone)
    with pytest.raises(InputError, match="^the adapter .*checkpoint-5 does not fit its base "):
        open_model(str(tmp_path / "checkpoint-5"), max_seq_length=24)


def test_another_base_is_another_model(lora, tmp_path):
    """What a run is told of its model, so that it does not go on with another one."""
    edit(tmp_path / "lora")
    before = fingerprint(lora)
    assert before == fingerprint(lora)
    copy = make_backbone(tmp_path / "copy", layers=1)
    named = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["base_model_name_or_path"]
    edit(tmp_path / "lora", base_model_name_or_path=copy)
    first = fingerprint(lora)
    weights = load_file(f"{copy}/model.safetensors")
    save_file({key: weight + 1 for key, weight in weights.items()}, f"{copy}/model.safetensors", {"format": "pt"})
    assert fingerprint(lora) != first
    edit(tmp_path / "lora", base_model_name_or_path=named)
    assert fingerprint(lora) == before


def test_stage_2_merges_the_adapter_of_another_embedding_model(tmp_path):
    """Sentence-transformers opens it as it is; trained, it is whole."""
    bert = make_bert(tmp_path / "bert", dropout=0.0)
    config = LoraConfig(task_type="FEATURE_EXTRACTION", r=2, target_modules=["query"], init_lora_weights=False)
    adapted = get_peft_model(AutoModel.from_pretrained(bert), config)
    shutil.copytree(bert, tmp_path / "adapted")
    for file in ("config.json", "model.safetensors"):
        (tmp_path / "adapted" / file).unlink()
    adapted.save_pretrained(tmp_path / "adapted")
    name = str(tmp_path / "adapted")
    assert (
        open_sentence_transformer(bert).encode("one").tolist() != open_sentence_transformer(name).encode("one").tolist()
    )
    expected = open_sentence_transformer(name).encode("one")
    write_jsonl(tmp_path / "train.jsonl", MANY)
    config = AlignConfig(
        model=name, data=str(tmp_path / "train.jsonl"), output_dir=str(tmp_path / "out"), max_steps=1, learning_rate=0.0
    )
    align(config)
    assert not list((tmp_path / "out").glob("adapter*"))
    assert (tmp_path / "out" / "model.safetensors").is_file()
    found = SentenceTransformer(str(tmp_path / "out")).encode("one")
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected))
    align(replace(config, learning_rate=0.1, output_dir=str(tmp_path / "trained"), warmup_steps=0))
    trained = SentenceTransformer(str(tmp_path / "trained")).encode("one")
    assert abs(trained - expected).max() > 1e-3


QUANTIZED = {
    "bitsandbytes (4 bits)": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "bitsandbytes (8 bits)": {"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False},
    "gptq (4 bits)": {"quant_method": "gptq", "bits": 4, "group_size": 128},
    "awq (4 bits)": {"quant_method": "awq", "bits": 4, "zero_point": True},
    "fp8": {"quant_method": "fp8"},
    "mxfp4": {"quant_method": "mxfp4"},
    "compressed-tensors": {"quant_method": "compressed-tensors", "config_groups": {}},
    "a method it does not name": {"some": "thing"},
    "nobody-knows": {"quant_method": "nobody-knows"},
}


def quantize(folder, about):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": about}))


@pytest.mark.parametrize("method", QUANTIZED)
def test_quantized_checkpoints_are_refused_by_name(backbone, lora, tmp_path, method):
    """Before weights or data are read, and as the base of an adapter too, as QLoRA leaves it."""
    shutil.copytree(backbone, tmp_path / "quantized")
    quantize(tmp_path / "quantized", QUANTIZED[method])
    name = str(tmp_path / "quantized")
    said = (
        f"{name} is quantized by {method}, and such weights cannot be trained whole. Start from the model that it was "
        "made from; lbr learn or lbr align --lora-rank 16 --load-in-4bit trains that in little memory"
    )
    assert refusal(name) == said
    with pytest.raises(InputError) as refused:
        lbr_st.from_backbone(name)
    assert str(refused.value) == said
    assert refusal(edit(tmp_path / "lora", base_model_name_or_path=name)) == said


def test_a_quantized_embedding_model_names_the_package_that_it_needs(tmp_path):
    """To use one is fine where its package is there."""
    name = make_bert(tmp_path / "bert")
    quantize(tmp_path / "bert" / "st", {"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(InputError, match=f"^--model {name} cannot be opened: .*bitsandbytes"):
        open_sentence_transformer(name)


def test_a_saved_model_is_never_quantized(model, tmp_path):
    lbr_st.save(model, tmp_path / "saved")
    quantize(tmp_path / "saved", {"quant_method": "gptq", "bits": 4})
    with pytest.raises(InputError, match="config.json: has a quantization_config: weights must be whole"):
        lbr_st.load(str(tmp_path / "saved"))
