"""The nano backbone: an ordinary language model directory, trained on what it was given."""

import math

import pytest
from helpers import TEXTS
from transformers import AutoModelForCausalLM, AutoTokenizer

import lbr_st
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl


@pytest.fixture(scope="module")
def nano(_programs):
    import nano

    return nano


@pytest.fixture(scope="module")
def trained(nano, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano")
    (folder / "text.md").write_text("\n".join(TEXTS) * 40)
    nano.train_backbone(
        nano.NanoConfig(
            text=[str(folder / "text.md")],
            output_dir=str(folder / "out"),
            vocab_size=300,
            hidden_size=64,
            layers=1,
            block_length=32,
            num_train_epochs=8,
        )
    )
    return folder / "out"


def test_is_an_ordinary_directory_that_learned(trained):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(trained), AutoTokenizer.from_pretrained(trained)
    ids = tokenizer("\n".join(TEXTS), return_tensors="pt")["input_ids"][:, :64]
    assert model(ids, labels=ids).loss < 0.7 * math.log(300)
    assert tokenizer.decode(tokenizer(TEXTS[-1])["input_ids"]) == TEXTS[-1]
    assert lbr_st.from_backbone(str(trained), max_seq_length=16).encode(TEXTS).shape == (6, 64)


def test_size_of_the_default(nano):
    """5 to 10 million parameters, counted from the shapes."""
    config = nano.nano_config(vocab_size=8192, hidden_size=256, num_layers=4, eos_token_id=0)
    parameters = AutoModelForCausalLM.from_config(config).num_parameters()
    layer = 4 * 256 * 256 + 3 * 256 + 3 * 256 * 768 + 2 * 256  # attention with q, k, v biases, MLP, norms
    assert parameters == 8192 * 256 + 4 * layer + 256
    assert 5e6 < parameters < 10e6


def test_blocks_are_the_stream_of_texts_with_eos(nano):
    tokenizer = nano.train_tokenizer(TEXTS, 300)
    blocks = nano.pack(TEXTS, tokenizer, 8)
    stream = [i for text in TEXTS for i in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]]
    assert [i for block in blocks for i in block["input_ids"]] == stream[: len(stream) // 8 * 8]
    assert blocks["labels"] == blocks["input_ids"]


def test_texts_of_files_and_folders(nano, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.md").write_text("alpha")
    (folder / "b.bin").write_text("ignored")
    write_jsonl(folder / "c.jsonl", [{"question": "q", "answer": "d", "source": "ignored"}])
    (tmp_path / "d.txt").write_text("delta")
    assert nano.read_texts([folder, tmp_path / "d.txt"]) == ["alpha", "q\nd", "delta"]
    with pytest.raises(InputError, match="no such file or folder"):
        nano.read_texts([tmp_path / "absent"])
