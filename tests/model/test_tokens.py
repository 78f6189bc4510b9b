"""Bottleneck tokens: appended to every text of every kind of tokenizer, spelled by none."""

import json
from pathlib import Path

import pytest
import torch
from helpers import FAMILIES, TEXTS, make_backbone, make_tokenizer, tiny
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, AutoTokenizer, TokenizersBackend

import lbr_st
from lbr_st.errors import InputError
from lbr_st.model.backbone import check_backbone
from lbr_st.model.tokens import WHITESPACE, add_bottleneck_tokens, bottleneck_token, refuse_spellable, save_tokenizer

KINDS = {tokenizer: family for family, (_, _, tokenizer) in reversed(FAMILIES.items())}  # a family of each
SPELLINGS = [
    "<|bottleneck 0|>",
    "a <|bottleneck 1|> b",
    "<|bottleneckĠ0|>",
    "<|bottleneck▁0|>",
    "<0x20><|bottleneck<0x20>0|>",
    "<|bottleneck 1|>" * 3,
    *(f"<|bottleneck{space}0|>" for space in [*WHITESPACE, "  "]),
]


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_ends_with_the_tokens(tmp_path, kind):
    """Nothing else changes: BOS, the ids of the text, the ids of every other token."""
    model, tokenizer = load(make_backbone(tmp_path / "backbone", family=KINDS[kind]))
    with_tokens, ids = add_bottleneck_tokens(model, tokenizer, 3)
    assert ids == [len(tokenizer), len(tokenizer) + 1, len(tokenizer) + 2]
    assert (tokenizer("")["input_ids"] == [tokenizer.bos_token_id]) == (kind in ("llama2", "llama3", "gemma"))
    specials = "".join(tokenizer.all_special_tokens)
    for text in ["", " ", "\n", *TEXTS, *SPELLINGS, specials]:
        assert with_tokens(text)["input_ids"] == tokenizer(text)["input_ids"] + ids
    pair = with_tokens("one", "two")["input_ids"]
    assert pair == tokenizer("one", "two")["input_ids"] + ids
    assert with_tokens.convert_ids_to_tokens(ids) == [bottleneck_token(i) for i in range(3)]
    assert {token: with_tokens.convert_tokens_to_ids(token) for token in tokenizer.get_vocab()} == tokenizer.get_vocab()
    assert with_tokens.bos_token == tokenizer.bos_token
    assert with_tokens.eos_token == tokenizer.eos_token


@pytest.mark.parametrize("template", ["$A <|endoftext|>", "<s> $A <|endoftext|>"])
def test_an_end_of_text_of_the_tokenizer_makes_room(tmp_path, template):
    """[BOS? X Z]: an EOS between X and Z would be read as text, and counted as BOS."""
    tokenizer = make_tokenizer("llama3")
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in ("<s>", "<|endoftext|>")}
    pair = template.replace("$A", "$A <|endoftext|> $B")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, pair=pair, special_tokens=list(ids.items())
    )
    tokenizer.save_pretrained(tmp_path)
    tiny("llama", vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    module = lbr_st.from_backbone(str(tmp_path), num_bottleneck_tokens=2, max_seq_length=24)[0]
    bos = [ids["<s>"]] if "<s>" in template else []
    x, y = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("one", "two"))
    assert module.tokenizer("one")["input_ids"] == [*bos, *x, *module.bottleneck_token_ids]
    paired = [*bos, *x, ids["<|endoftext|>"], *y, *module.bottleneck_token_ids]
    assert module.tokenizer("one", "two")["input_ids"] == paired
    assert module.num_prefix_tokens == len(bos)


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_spells_them(tmp_path, kind):
    """In memory, saved and loaded beside its configuration, alone, and as raw tokenizers read it."""
    model, tokenizer = load(make_backbone(tmp_path / "backbone", family=KINDS[kind]))
    with_tokens, ids = add_bottleneck_tokens(model, tokenizer, 2)
    for folder in (tmp_path / "alone", tmp_path / "beside"):
        save_tokenizer(with_tokens, folder)
    model.config.save_pretrained(tmp_path / "beside")
    saved = [AutoTokenizer.from_pretrained(tmp_path / name) for name in ("alone", "beside")]
    assert type(with_tokens) is type(saved[1])  # in memory as it will be loaded
    raw = Tokenizer.from_file(str(tmp_path / "alone" / "tokenizer.json"))
    for text in SPELLINGS:
        for found in (raw.encode(text).ids, *(t(text)["input_ids"] for t in [with_tokens, *saved])):
            assert found[-2:] == ids
            assert not set(found[:-2]) & set(ids)
        assert not set(with_tokens(text, add_special_tokens=False)["input_ids"]) & set(ids)


def test_no_text_spells_them_with_ignore_merges(tmp_path):
    """Llama 3 looks a whole pre-token up before it merges; a plain entry such as <z0> would be found."""
    folder = make_backbone(tmp_path / "backbone")
    model, tokenizer = load(folder)
    with_tokens, ids = add_bottleneck_tokens(model, tokenizer, 2)
    with_tokens.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["ignore_merges"] = True
    raw = Tokenizer.from_str(json.dumps(data))
    for text in SPELLINGS:
        assert not set(raw.encode(text).ids[:-2]) & set(ids)


def test_a_normaliser_that_makes_spaces_is_found_out():
    """NFKC after the spaces were rewritten turns a no-break space into a raw one."""
    tokenizer = Tokenizer(models.BPE({"a": 0}, []))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    refuse_spellable(tokenizer, ["<|bottleneck 0|>"])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(" ", "▁"), normalizers.NFKC()])
    with pytest.raises(InputError, match="a text could spell '<|bottleneck 0|>': this tokenizer keeps raw spaces"):
        refuse_spellable(tokenizer, ["<|bottleneck 0|>"])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["qwen2", "gpt-neox", "gemma3"])
def test_rows(tmp_path, family, tied):
    """New rows lie close to the mean of the old ones, which stay bitwise as they were."""
    model, tokenizer = load(make_backbone(tmp_path / "backbone", family=family, tied=tied))
    old = [e.weight.detach().clone() for e in (model.get_input_embeddings(), model.get_output_embeddings())]
    _, ids = add_bottleneck_tokens(model, tokenizer, 2)
    new = [e.weight.detach() for e in (model.get_input_embeddings(), model.get_output_embeddings())]
    for before, after in zip(old, new, strict=True):
        assert after.shape[0] == before.shape[0] + 2
        assert torch.equal(after[:-2], before)
        distance = (after[ids] - before.mean(0)).abs().max()
        assert 0 < distance < before.std()
        assert not torch.equal(after[ids[0]], after[ids[1]])
    assert tied == torch.equal(new[0], new[1])
    assert model.config.vocab_size == len(new[0])
    model.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    for before, after in zip(new, (again.get_input_embeddings(), again.get_output_embeddings()), strict=True):
        assert torch.equal(before, after.weight)


def test_spare_rows_are_used(tmp_path):
    model, tokenizer = load(make_backbone(tmp_path / "backbone"))
    model.resize_token_embeddings(len(tokenizer) + 10)
    _, ids = add_bottleneck_tokens(model, tokenizer, 3)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) + 10
    assert ids[-1] < len(tokenizer) + 10


def test_the_same_backbone_gives_the_same_rows(tmp_path):
    folder = make_backbone(tmp_path / "backbone")
    rows = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model, tokenizer = load(folder)
        _, ids = add_bottleneck_tokens(model, tokenizer, 2)
        rows.append(model.get_input_embeddings().weight[ids])
    assert torch.equal(*rows)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_on_the_right_and_never_a_bottleneck_token(tmp_path, kind):
    """Families without a padding token pad with EOS; many backbones pad on the left."""
    backbone = make_backbone(tmp_path / "backbone", family=KINDS[kind])
    tokenizer = AutoTokenizer.from_pretrained(backbone, padding_side="left")
    tokenizer.save_pretrained(backbone)
    assert AutoTokenizer.from_pretrained(backbone).padding_side == "left"
    model = lbr_st.from_backbone(backbone, max_seq_length=16)
    tokenizer = model.tokenizer
    assert tokenizer.pad_token_id is not None
    assert tokenizer.pad_token_id not in model[0].bottleneck_token_ids
    short = model.preprocess(["", "one two three"])["input_ids"][0]
    number = len(tokenizer("")["input_ids"])
    assert short[number:].tolist() == [tokenizer.pad_token_id] * (len(short) - number)


def test_refusals(tmp_path):
    model, tokenizer = load(make_backbone(tmp_path / "backbone"))
    with pytest.raises(InputError, match="at least 1, got 0"):
        add_bottleneck_tokens(model, tokenizer, 0)
    with_tokens, _ = add_bottleneck_tokens(model, tokenizer, 1)
    with pytest.raises(InputError, match="has bottleneck tokens already"):
        add_bottleneck_tokens(model, with_tokens, 1)
    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(InputError, match="need a BPE tokenizer, this one is WordLevel"):
        add_bottleneck_tokens(model, TokenizersBackend(tokenizer_object=words), 1)
    plain = Tokenizer(models.BPE({"a": 0, " ": 1}, []))
    with pytest.raises(InputError, match="keeps raw spaces"):
        add_bottleneck_tokens(model, TokenizersBackend(tokenizer_object=plain), 1)


def test_a_tokenizer_with_nothing_to_pad_with_is_refused():
    tokenizer = make_tokenizer("qwen2")
    tokenizer.pad_token = tokenizer.eos_token = None
    with pytest.raises(InputError, match="needs a token to pad with"):
        lbr_st.BottleneckTransformer(tiny("qwen2"), tokenizer, bottleneck_token_ids=[1], max_seq_length=8)


@pytest.mark.parametrize("order", ["add_bos_token", "add_eos_token"])
def test_orders_that_contradict_the_template_are_not_saved(tmp_path, order):
    """Some tokenizers write them. llama.cpp follows them, and would leave out what the template adds."""
    tokenizer = make_tokenizer("qwen2")
    save = tokenizer.save_pretrained

    def save_with_order(folder):
        save(folder)
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {order: False}))

    tokenizer.save_pretrained = save_with_order
    save_tokenizer(tokenizer, tmp_path)
    assert order not in json.loads((tmp_path / "tokenizer_config.json").read_text())


def test_words_that_have_no_row_are_of_another_model(tmp_path):
    folder = make_backbone(tmp_path / "model")
    words = len(AutoTokenizer.from_pretrained(folder))
    small = tiny("qwen2", vocab_size=words - 7)
    small.save_pretrained(folder)
    message = rf"^{folder}: its tokenizer knows 7 words, .* beyond the {words - 7} rows of its embeddings"
    for refuse in (check_backbone, lbr_st.from_backbone):
        with pytest.raises(InputError, match=message):
            refuse(folder)


def test_tokens_that_were_added_and_have_no_row_get_new_ones_and_that_is_said(tmp_path, caplog):
    folder = make_backbone(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    words = len(tokenizer)
    tokenizer.add_tokens(["<|user|>", "<|model|>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    check_backbone(folder)
    assert not caplog.records
    model = lbr_st.from_backbone(folder, num_bottleneck_tokens=1, max_seq_length=24)
    assert model[0].bottleneck_token_ids == [words + 2]
    [said] = [record.getMessage() for record in caplog.records if record.name.startswith("lbr_st")]
    assert said.startswith(f"{folder}: its tokenizer has {words + 2} ids and the model {words} rows: tokens that were")


@pytest.mark.parametrize(("file", "text"), [("tokenizer_config.json", "[]"), ("tokenizer.json", "{}")])
def test_json_that_is_no_tokenizer_is_refused_by_name(tmp_path, file, text):
    folder = make_backbone(tmp_path / "damaged")
    Path(folder, file).write_text(text)
    with pytest.raises(InputError, match="damaged: a file of its tokenizer is damaged \\(") as caught:
        lbr_st.from_backbone(folder, max_seq_length=24)
    assert "\n" not in str(caught.value)
