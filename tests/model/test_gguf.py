"""A GGUF file as a backbone: the model and the ids are those of the model that it was written from."""

import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from gguf_files import write_gguf
from helpers import MANY, TEXTS, make_backbone, tiny
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Tokenizer, TokenizersBackend

import lbr_st
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.model import gguf
from lbr_st.model.backbone import read_backbone
from lbr_st.model.named import check_model_exists
from lbr_st.model.opening import open_model, open_sentence_transformer
from lbr_st.model.verify import verify
from lbr_st.use.export import export

# What two ways of splitting disagree on: numbers after several spaces, and long ones.
SPLITS_DIFFER = ["a  2", "in 2024", "1,000,000", "tab\t3", "x=10;  y=11"]
HOSTILE = ["", " ", "\n\n", "Ümläute 漢字 👩‍🔬", "<|endoftext|> in a text", *SPLITS_DIFFER, *TEXTS]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Directories of a Qwen2, and of a Llama whose tokenizer splits as SmolLM2's does."""
    folder = tmp_path_factory.mktemp("originals")
    tokenizer = GPT2Tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trained = tokenizer.train_new_from_iterator([*TEXTS, *SPLITS_DIFFER] * 20, vocab_size=500)
    # The class GPT2Tokenizer would put its own way of splitting in this one's place when it is opened.
    tokenizer = TokenizersBackend(tokenizer_object=trained.backend_tokenizer, eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder / "llama")
    eos = tokenizer.eos_token_id
    tiny("llama", vocab_size=len(tokenizer), eos_token_id=eos, tie_word_embeddings=True).save_pretrained(
        folder / "llama"
    )
    made = {"qwen2": make_backbone(folder / "qwen2"), "llama": str(folder / "llama")}
    return made


@pytest.fixture(scope="module")
def files(originals, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")
    return {
        "qwen2": write_gguf(originals["qwen2"], folder / "qwen2.gguf", "qwen2"),
        "llama": write_gguf(originals["llama"], folder / "llama.gguf", "smollm"),
    }


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_it_is_the_model_that_it_was_written_from(family, files, originals):
    backbone = read_backbone(str(files[family]))
    model = backbone.read_weights(dtype=torch.float32)
    original = AutoModelForCausalLM.from_pretrained(originals[family])
    tokenizer = AutoTokenizer.from_pretrained(originals[family])
    for text in HOSTILE:
        assert backbone.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"], text
    ids = torch.arange(40)[None] % len(tokenizer)
    with torch.no_grad():
        assert (model(ids).logits - original(ids).logits).abs().max() < 1e-5
    assert model.dtype == torch.float32
    assert backbone.tokenizer.eos_token == tokenizer.eos_token
    assert backbone.tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"
    assert backbone.config.num_hidden_layers == 2


def test_numbers_are_split_as_the_file_says(files, originals):
    """The file's own way matters: GPT-2's gives other ids to some of these texts."""
    tokenizer = AutoTokenizer.from_pretrained(originals["llama"])
    ids = [tokenizer(text)["input_ids"] for text in SPLITS_DIFFER]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert ids != [tokenizer(text)["input_ids"] for text in SPLITS_DIFFER]
    read = read_backbone(str(files["llama"])).tokenizer
    assert ids == [read(text)["input_ids"] for text in SPLITS_DIFFER]


def test_perplexity_is_said(files, caplog):
    """The number is computed by hand; the model is random, and that is said too."""
    with caplog.at_level(logging.INFO, "lbr_st"):
        backbone = read_backbone(str(files["qwen2"]))
        model = backbone.read_weights()
    ids = torch.tensor([backbone.tokenizer(gguf.PARAGRAPH)["input_ids"]])
    with torch.no_grad():
        of_tokens = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
    expected = (-of_tokens.mean()).exp()
    [line] = [record.getMessage() for record in caplog.records if "perplexity" in record.getMessage()]
    assert f"perplexity {expected:.1f} on" in line and "does not read" in line
    assert line.startswith("qwen2.gguf: tiny, 0.0 M parameters")


def test_saved_trained_and_read_again(files, tmp_path):
    """What was dequantized is saved and trained like any other model."""
    model = lbr_st.from_backbone(str(files["llama"]), num_bottleneck_tokens=2, max_seq_length=24)
    lbr_st.save(model, tmp_path / "model")
    assert len(list(verify(tmp_path / "model"))) > 3
    again = lbr_st.load(str(tmp_path / "model"))
    assert torch.equal(again.encode(TEXTS, convert_to_tensor=True), model.encode(TEXTS, convert_to_tensor=True))
    assert "quantization_config" not in (tmp_path / "model" / "config.json").read_text()


def test_as_an_ordinary_directory(files, originals, tmp_path):
    gguf.write_directory(files["llama"], tmp_path / "plain")
    one, other = (AutoModelForCausalLM.from_pretrained(folder) for folder in (tmp_path / "plain", originals["llama"]))
    for name, values in other.state_dict().items():
        assert torch.equal(one.state_dict()[name], values), name
    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in (tmp_path / "plain", originals["llama"])]
    assert [each(HOSTILE)["input_ids"] for each in tokenizers][0] == tokenizers[1](HOSTILE)["input_ids"]
    assert tokenizers[0].chat_template


@pytest.mark.slow
@pytest.mark.whole_run
def test_from_a_gguf_to_a_reader_without_this_package(files, tmp_path):
    """Stage 1, stage 2, verify, sentence-transformers alone, and an export."""
    write_jsonl(tmp_path / "pairs.jsonl", MANY)
    common = {"max_length": 24, "max_steps": 2, "per_device_train_batch_size": 4}
    data = str(tmp_path / "pairs.jsonl")
    learned, made = str(tmp_path / "learned"), str(tmp_path / "made")
    lbr_st.learn(lbr_st.LearnConfig(model=str(files["llama"]), data=[data], output_dir=learned, **common))
    model = lbr_st.align(lbr_st.AlignConfig(model=learned, data=data, output_dir=made, **common))
    assert list(verify(made))
    code = (
        "import sys; sys.modules['lbr_st'] = sys.modules['gguf'] = None\n"
        "from sentence_transformers import SentenceTransformer\n"
        "print(*SentenceTransformer(sys.argv[1]).encode([sys.argv[2]])[0])"
    )
    found = subprocess.run([sys.executable, "-c", code, made, TEXTS[0]], capture_output=True, text=True, check=True)
    vector = torch.tensor([float(number) for number in found.stdout.split()])
    expected = model.encode(TEXTS[0], convert_to_tensor=True)
    assert (vector - expected).abs().max() < 1e-6

    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    exported = export(made, "onnx", tmp_path / "exported").folder
    row = Tokenizer.from_file(str(exported / "tokenizer.json")).encode(TEXTS[0])
    inputs = {"input_ids": np.array([row.ids]), "attention_mask": np.array([row.attention_mask])}
    session = onnxruntime.InferenceSession(exported / "onnx/model.onnx")
    (exported_vector,) = session.run(["sentence_embedding"], inputs)[0]
    assert np.abs(exported_vector - expected.cpu().numpy()).max() < 1e-5


def test_stage_2_starts_from_it_and_resumes_by_its_contents(files, originals, tmp_path):
    write_jsonl(tmp_path / "pairs.jsonl", MANY)
    model = tmp_path / "here.gguf"
    model.write_bytes(files["llama"].read_bytes())
    config = {
        "model": str(model), "data": str(tmp_path / "pairs.jsonl"), "output_dir": str(tmp_path / "out"),
        "max_length": 24, "max_steps": 1, "per_device_train_batch_size": 4, "resume": True,
    }  # fmt: skip
    lbr_st.align(lbr_st.AlignConfig(**config))
    model.write_bytes(files["qwen2"].read_bytes())
    with pytest.raises(InputError, match="model_sha256: was"):
        lbr_st.align(lbr_st.AlignConfig(**config))


def test_lora_on_a_gguf(files, tmp_path):
    write_jsonl(tmp_path / "pairs.jsonl", MANY)
    lbr_st.align(
        lbr_st.AlignConfig(
            model=str(files["qwen2"]), data=str(tmp_path / "pairs.jsonl"), output_dir=str(tmp_path / "out"),
            max_length=24, max_steps=1, per_device_train_batch_size=4, lora_rank=2,
        )
    )  # fmt: skip
    assert lbr_st.load(str(tmp_path / "out")).encode(["one"]).shape == (1, 32)


def test_a_folder_that_holds_one(files, tmp_path):
    assert gguf.gguf_file(files["qwen2"]) == files["qwen2"]
    assert gguf.gguf_file("Qwen/Qwen2.5-0.5B-Instruct-GGUF") is None
    assert gguf.gguf_file(tmp_path) is None
    (tmp_path / "a.gguf").touch()
    assert gguf.gguf_file(tmp_path) == tmp_path / "a.gguf"
    check_model_exists(str(tmp_path))
    (tmp_path / "b.gguf").touch()
    with pytest.raises(InputError, match="holds 2 GGUF files; name one of them, as in .*a.gguf"):
        check_model_exists(str(tmp_path))
    (tmp_path / "config.json").touch()
    assert gguf.gguf_file(tmp_path) is None
    folder = tmp_path / "model.gguf"  # as lbr export --output-dir may be called
    folder.mkdir()
    assert gguf.gguf_file(folder) is None
    (folder / "model-f16.gguf").touch()
    assert gguf.gguf_file(folder) == folder / "model-f16.gguf"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder, original: folder / "none.gguf", "none.gguf: no such file"),
        (
            lambda folder, original: write_gguf(original, folder / "m-00001-of-00002.gguf", "qwen2"),
            "one part of a split model; join its parts",
        ),
        (
            lambda folder, original: write_gguf(original, folder / "m.gguf", "qwen2", split__count=3),
            "m.gguf is one of 3 parts; join them",
        ),
        (
            lambda folder, original: write_gguf(original, folder / "m.gguf", "qwen2", architecture="rwkv9"),
            "transformers .* cannot read GGUF files of the architecture 'rwkv9'",
        ),
        (
            lambda folder, original: write_gguf(original, folder / "m.gguf", "qwen2", "blk.1.ffn_up.weight"),
            "m.gguf lacks 1 of the .* tensors of the model, model.layers.1.mlp.up_proj.weight for one",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(originals, tmp_path, make, message):
    with pytest.raises(InputError, match=message) as caught:
        open_model(str(make(tmp_path, originals["qwen2"])), max_seq_length=24)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 3, 400, 0.5, 0.99])
def test_a_file_that_is_not_whole(files, tmp_path, kept):
    whole = files["qwen2"].read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else kept])
    with pytest.raises(InputError, match=r"cut.gguf is no whole GGUF file") as caught:
        open_model(str(cut), max_seq_length=24)
    assert "\n" not in str(caught.value)


def test_weights_that_compute_no_numbers(originals, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(originals["qwen2"])
    model.model.norm.weight.data[3] = float("nan")
    model.save_pretrained(tmp_path / "broken")
    AutoTokenizer.from_pretrained(originals["qwen2"]).save_pretrained(tmp_path / "broken")
    file = write_gguf(str(tmp_path / "broken"), tmp_path / "m.gguf", "qwen2")
    with pytest.raises(InputError, match=r"numbers that are not finite \(NaN or infinite\) in model.norm.weight"):
        open_model(str(file), max_seq_length=24)


def test_without_the_package(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match=r"qwen2.gguf, a GGUF file, needs gguf, .* pip install 'lbr-st\[gguf\]'"):
        open_model(str(files["qwen2"]))


def test_in_4_bits(files):
    with pytest.raises(InputError, match="are dequantized, they cannot be opened in 4 bits"):
        open_model(str(files["qwen2"]), quantization_config="any")


def test_it_is_no_embedding_model(files):
    with pytest.raises(InputError, match="is a language model, not an embedding model: lbr learn"):
        open_sentence_transformer(str(files["qwen2"]))


def test_a_way_of_splitting_that_transformers_does_not_know(originals, tmp_path, caplog):
    read_backbone(str(write_gguf(originals["llama"], tmp_path / "m.gguf", "of-tomorrow")))
    assert "tiny splits texts as 'of-tomorrow', which transformers" in caplog.text


def test_biases_that_transformers_leaves_out(originals, tmp_path):
    """It gives a Llama none, whatever the file has: the model would compute something else, and nothing be said."""
    folder = make_backbone(tmp_path / "biased", "llama", attention_bias=True)
    file = write_gguf(folder, tmp_path / "m.gguf", "smollm")
    assert gguf.read_header(file).has_biases
    with pytest.raises(InputError, match="m.gguf: its layers have biases, which transformers leaves out of a llama"):
        read_backbone(str(file)).read_weights()


@pytest.mark.parametrize(("splits_as", "begins"), [("llama-bpe", True), ("gpt-2", False)])
def test_texts_of_llama_3_begin_with_their_token_where_the_file_says_nothing(
    originals, tmp_path, monkeypatch, splits_as, begins
):
    """As llama.cpp reads such files, also after the tokenizer was saved; one that says no is heeded."""
    says_no = write_gguf(originals["llama"], tmp_path / "no.gguf", splits_as)
    monkeypatch.setattr(GGUFWriter, "add_add_bos_token", lambda self, value: None)
    says_nothing = write_gguf(originals["llama"], tmp_path / "m.gguf", splits_as)
    plain = AutoTokenizer.from_pretrained(originals["llama"])
    tokenizer = read_backbone(str(says_nothing)).tokenizer
    tokenizer.save_pretrained(tmp_path / "saved")
    for each in (tokenizer, AutoTokenizer.from_pretrained(tmp_path / "saved")):
        assert each("")["input_ids"] == [plain.eos_token_id] * begins  # the writer's first token is its last one too
        assert each.backend_tokenizer.model.ignore_merges == begins
    assert read_backbone(str(says_no)).tokenizer("")["input_ids"] == []
    assert lbr_st.from_backbone(str(says_nothing), max_seq_length=24)[0].num_prefix_tokens == begins


def test_positions_that_turn_a_part_of_a_query(originals, tmp_path, monkeypatch):
    """transformers reads no such part of a Phi-3 or Qwen2: it would turn all of it, and nothing be said."""
    written = GGUFWriter.add_rope_dimension_count
    monkeypatch.setattr(GGUFWriter, "add_rope_dimension_count", lambda self, count: written(self, 6))
    file = write_gguf(originals["qwen2"], tmp_path / "m.gguf", "qwen2")
    with pytest.raises(InputError, match="m.gguf: its positions turn 6 of 8 numbers of a query, and .* qwen2 8"):
        read_backbone(str(file)).read_weights()


def test_scaled_positions_are_said(originals, tmp_path, caplog, monkeypatch):
    file = write_gguf(originals["qwen2"], tmp_path / "m.gguf", "qwen2")
    header = gguf.read_header(file)
    assert not header.scales_positions
    monkeypatch.setattr(gguf, "read_header", lambda file: header._replace(scales_positions=True))
    read_backbone(str(file)).read_weights()
    assert "m.gguf scales its positions" in caplog.text


def test_ids_are_held_against_the_vocabulary(files):
    """A tokenizer whose ids are moved by one is refused."""
    header = gguf.read_header(files["qwen2"])
    tokenizer = read_backbone(str(files["qwen2"])).tokenizer
    moved = header._replace(tokens=[*header.tokens[1:], header.tokens[0]])
    gguf.check_spelling(tokenizer, header, files["qwen2"])
    with pytest.raises(InputError, match="its tokenizer was read wrongly, the ids of 'The patient"):
        gguf.check_spelling(tokenizer, moved, files["qwen2"])


def test_spelling():
    assert gguf.spell(["Ġna", "Ã¯", "ve"], byte_level=True) == " naïve"
    assert gguf.spell(["▁na", "<0xC3>", "<0xAF>", "ve"], byte_level=False) == " naïve"
