"""The command `lbr search`; that a base install suffices for it is in tests/test_packaging.py."""

import json
import re
from pathlib import Path

import pytest
import torch
from helpers import TEXTS

import lbr_st
from lbr_st.cli import search as command
from lbr_st.cli.search import main
from lbr_st.errors import InputError
from lbr_st.files import write_json, write_jsonl
from lbr_st.model.encoding import TextEncoder
from lbr_st.use.dtypes import Rates
from lbr_st.use.encode import EncodeConfig, encode_corpus
from lbr_st.use.runtimes import Computing


@pytest.fixture
def argv(model, tmp_path):
    lbr_st.save(model, tmp_path / "model")
    write_jsonl(tmp_path / "train.jsonl", [{"text": text} for text in TEXTS])
    return ["--model", str(tmp_path / "model"), "--data", str(tmp_path / "train.jsonl")]


def test_passages_for_each_question(argv, capsys):
    main([*argv, "--top-k", "2", "one", "two"])
    printed = capsys.readouterr().out
    assert printed.count("> ") == 2
    assert printed.count("\n    ") == 4
    assert f"Searched {len(TEXTS)} passages.\nnext: lbr encode {argv[0]} {argv[1]} " in printed


@pytest.fixture
def vectors(argv, tmp_path):
    """Encode what is searched; return the folder."""

    def encode(**settings):
        folder = tmp_path / "vectors"
        encode_corpus(EncodeConfig(model=argv[1], data=argv[3], output_dir=folder, shard_rows=4, **settings))
        return str(folder)

    return encode


def test_the_output_of_lbr_encode(argv, vectors, capsys, monkeypatch):
    """The hits of the text itself, alone and with BM25; nothing is encoded but the questions."""
    questions, fused = ["How is anaemia treated?", "one"], ["--fuse", "bm25"]
    expected = []
    for flags in ([], fused):
        main([*argv, *flags, *questions])
        expected.append(capsys.readouterr().out.partition("\nnext: ")[0])
    folder = vectors(with_text=True)
    texts, encode = [], TextEncoder.encode

    def kept(self, some, *args, **kwargs):
        texts.extend(some)
        return encode(self, some, *args, **kwargs)

    monkeypatch.setattr(TextEncoder, "encode", kept)
    for flags, of_text in zip(([], [*fused, "--memory-mib", "1"]), expected, strict=True):
        main([*argv[:2], "--data", folder, *flags, *questions])
        after = f"\nnext: lbr serve {argv[0]} {argv[1]} --data {folder}, to let others ask\n"
        assert capsys.readouterr().out == of_text + after
    assert texts == 2 * questions


def test_the_output_of_lbr_encode_without_texts(argv, vectors, capsys, monkeypatch):
    folder = vectors(precision="int8")
    main([*argv[:2], "--data", folder, "--top-k", "2", "why"])
    hits = r"\n> why\n(  -?0\.\d{3}  \d\n){2}\n"
    assert re.match(f"{hits}Searched {len(TEXTS)} passages", capsys.readouterr().out)
    monkeypatch.setattr(Computing, "open", None)  # it is refused before
    with pytest.raises(InputError, match=r"^--fuse bm25 needs the texts, and .*vectors has none"):
        main([*argv[:2], "--data", folder, "--fuse", "bm25", "why"])
    file = Path(argv[1]) / "config_sentence_transformers.json"
    write_json(file, json.loads(file.read_text()) | {"prompts": {"query": "other: ", "document": ""}})
    with pytest.raises(InputError, match="vectors was encoded with another model"):
        main([*argv[:2], "--data", folder, "why"])


def test_with_bm25(argv, capsys):
    """By ranks unless a weight is given; of which 0 is BM25 alone."""
    main([*argv, "--top-k", "1", "--fuse", "bm25", "--fuse-weight", "0", "How is anaemia treated?"])
    assert re.search(r"  \d\.\d{3}  3  \(model \d, bm25 1\)\n    How is anaemia", capsys.readouterr().out)
    for flags in ([], ["--fuse-weight", "rrf"]):
        main([*argv, "--fuse", "bm25", *flags, "How is anaemia treated?"])
        scores = [float(line.split()[0]) for line in capsys.readouterr().out.splitlines() if "(model" in line]
        assert len(scores) == 3 and 0.015 < min(scores) < max(scores) <= 0.033  # 1 / 61 by each rank at best


def test_bm25_needs_its_packages(argv, monkeypatch):
    monkeypatch.setattr("lbr_st.errors.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"^--fuse bm25 needs bm25s, which is not installed: pip install 'lbr-st\[eval"
    ):
        main([*argv, "--fuse", "bm25", "why"])


def test_refusals(argv, tmp_path, capsys):
    with pytest.raises(
        InputError, match="^lbr search: the following arguments are required: --model, --data, question"
    ):
        main([])
    with pytest.raises(
        InputError, match="^lbr search: argument --top-k: must be a whole number from 1 to 2,147,483,647, got 0"
    ):
        main([*argv, "--top-k", "0", "why"])
    with pytest.raises(InputError, match="--model ./absent is not a model: no such directory"):
        main(["--model", "./absent", *argv[2:], "why"])
    with pytest.raises(InputError, match="absent.jsonl: no such file"):
        main([*argv[:2], "--data", str(tmp_path / "absent.jsonl"), "why"])
    for flags, message in (
        (["--fuse-weight", "0.5"], "--fuse-weight goes with --fuse bm25"),
        (["--fuse", "bm25", "--fuse-weight", "1.5"], "argument --fuse-weight: must be a number from 0 to 1, got 1.5"),
        (["--fuse", "bm25", "--fuse-weight", "nan"], "argument --fuse-weight: must be a number from 0 to 1, got nan"),
        (["--fuse", "bm25", "--fuse-weight", "x"], "argument --fuse-weight: must be a number from 0 to 1, got x"),
        (["--fuse", "splade"], "argument --fuse: invalid choice: 'splade'"),
        (["--memory-mib", "0"], "argument --memory-mib: must be a whole number from 1 to 2,147,483,647, got 0"),
    ):
        with pytest.raises(InputError) as error:
            main([*argv, *flags, "why"])
        assert str(error.value).startswith(f"lbr search: {message}")
    for question in ("", " ", "\udcff"):
        with pytest.raises(InputError, match="^lbr search: a question is empty"):
            main([*argv, "why", question])
    assert capsys.readouterr().out == ""


def test_a_question_in_another_encoding_is_refused(argv, monkeypatch):
    """Its bytes come as lone surrogates, which would be cleaned away; where a locale is to blame, that is said."""
    with pytest.raises(InputError, match="a question has bytes that are not UTF-8: 'fr Ärzte' without them"):
        main([*argv, "f\udcfcr Ärzte"])
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "ascii")
    with pytest.raises(InputError, match=r"this locale, of ascii, does not have \(export LC_ALL=C.UTF-8\): 'mania '"):
        main([*argv, "mania \udcc3\udca9"])


def test_how_the_model_is_run(argv, monkeypatch, capsys):
    """The type is chosen by the first passages, and the model opened in it."""
    asked, opened, own = [], [], Computing.open
    monkeypatch.setattr(command, "COMPARED", 2)
    monkeypatch.setattr(command, "choose_dtype", lambda model, texts: asked.append((model.dtype, texts)) or "bfloat16")
    monkeypatch.setattr(Computing, "open", lambda self, name: opened.append(self.dtype) or own(self, name))
    main([*argv, "--dtype", "auto", "How is anaemia treated?"])
    assert asked == [(torch.float32, TEXTS[:2])] and opened == ["auto", "bfloat16"]
    assert "Searched" in capsys.readouterr().out
    monkeypatch.setattr(command, "search", lambda *args: pytest.fail("was searched"))
    for flags, message in (
        (["--dimensions", "8"], "^--dimensions 8: .* was trained for its 32 alone; "),
        (["--runtime", "onnx", "--dtype", "float16"], "^--dtype float16 is for --runtime torch: onnx computes in"),
    ):
        with pytest.raises(InputError, match=message):
            main([*argv, *flags, "why"])
    monkeypatch.setattr("lbr_st.use.dtypes.measure_rates", lambda model, dtype: Rates(1.0, 9.0))
    with pytest.raises(InputError, match="^--dtype bfloat16 is slower here than float32: "):
        main([*argv, "--dtype", "bfloat16", "why"])


def test_a_question_that_is_a_second_source(argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("model", "train.jsonl"):
        with pytest.raises(InputError) as error:
            main([*argv, "one", name])
        assert str(error.value) == (
            f"lbr search: {name} is a file or folder here, and would be asked as a question; --data takes one source "
            f"(the question is asked as '{name}?') (see lbr search --help)"
        )
