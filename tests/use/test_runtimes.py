"""What runs a model: the same vectors by another runtime than torch, an export that is made once, what is refused."""

import json
import logging
import shutil
import sys
from pathlib import Path

import pytest
import torch
from helpers import TEXTS
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.model.contract import fail, fingerprint
from lbr_st.model.encoding import TextEncoder
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.model.packing import pack
from lbr_st.model.shared_prompt import share_prompt
from lbr_st.use import runtimes
from lbr_st.use.export_formats import FORMATS
from lbr_st.use.runtimes import Computing, cache_folder, runtime_of

PROMPT = "Find me 3 pages, q7 of them: "
MANY = [f"{text[: 7 + 3 * number]} {number}" for number in range(6) for text in TEXTS]  # of many lengths


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_vectors_are_those_of_the_model(saved, cache, runtime):
    """By the plain pass: no positions and no cache go in, by which texts would be packed and a prompt be shared."""
    model, original = Computing(runtime).open(str(saved)), SentenceTransformer(str(saved), device="cpu")
    assert next(model.parameters(), None) is None and not model.training
    encoder = TextEncoder(model, 128, tried_from=1)
    for role, encode in (("query", original.encode_query), ("document", original.encode_document)):
        found = encoder.encode([*MANY, "", "long " * 40], role).numpy()
        assert abs(found - encode([*MANY, "", "long " * 40])).max() < 1e-5
    found = encoder.encode(MANY, "query", PROMPT).numpy()
    assert abs(found - original.encode(MANY, prompt=PROMPT)).max() < 1e-5
    ids = original.tokenizer(PROMPT)["input_ids"]
    for way in (pack, share_prompt):
        assert way(model, ids) is None and way(original.eval(), ids) is not None


def test_an_export_is_made_once(saved, cache, tmp_path, caplog):
    """For these weights: it is found again, and another model or runtime has its own; it is said how near it comes."""
    with caplog.at_level(logging.INFO, "lbr_st"):
        Computing("onnx").open(str(saved))
    [folder] = cache_folder().iterdir()
    assert folder.name == f"{fingerprint(saved)[:32]}-onnx" and cache == ["onnx"]
    first, second = [record.getMessage() for record in caplog.records if record.name == "lbr_st.use.runtimes"]
    assert first == f"exporting {saved} for onnx, once"
    assert second.startswith(f"{saved} runs on onnx, from {folder}: least cosine to the original 1.000000")
    Computing("onnx").open(str(saved))
    assert cache == ["onnx"]
    shutil.copytree(saved, tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text((saved / "config.json").read_text() + " ")
    Computing("onnx").open(str(tmp_path / "other"))
    assert cache == ["onnx", "onnx"] and len(list(cache_folder().iterdir())) == 2


def test_where_exports_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    below = Path("lbr-st", "exports-2")
    for value, expected in (("/somewhere", "/somewhere"), ("relative", tmp_path / ".cache"), ("", tmp_path / ".cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == Path(expected) / below


def test_an_export_that_gives_other_vectors_is_not_kept(saved, cache, monkeypatch):
    def export(model, to, output_dir):
        (output_dir / "half").write_text("half")
        fail("input ''", "a vector of cosine 0.5")

    monkeypatch.setattr(runtimes, "export", export)
    message = f"^--model {saved}, --runtime onnx-int8: input '': a vector of cosine 0.5$"
    with pytest.raises(InputError, match=message):
        Computing("onnx-int8").open(str(saved))
    assert not cache_folder().exists()


def test_another_process_may_be_faster(saved, cache, exported, monkeypatch):
    """Its export is taken; where nothing is there, what the system says is raised."""
    folder = cache_folder() / f"{fingerprint(saved)[:32]}-onnx"
    own = runtimes.export

    def export(model, to, output_dir):
        shutil.copytree(exported(to), folder)
        own(model, to, output_dir)

    monkeypatch.setattr(runtimes, "export", export)
    assert Computing("onnx").open(str(saved))
    assert [each.name for each in cache_folder().iterdir()] == [folder.name]

    def full(model, to, output_dir):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runtimes, "export", full)
    with pytest.raises(OSError, match="No space left"):
        Computing("openvino").open(str(saved))


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_an_export_is_a_model(saved, exported, cache, runtime):
    """Without a flag by its own runtime; its weights are those of the model that it was made from."""
    folder = str(exported(runtime))
    Computing().check(folder)
    assert runtime_of(folder) == runtime and runtime_of(str(saved)) == "torch"
    expected = SentenceTransformer(str(saved), device="cpu").encode(TEXTS)
    assert abs(Computing().open(folder).encode(TEXTS) - expected).max() < 1e-5
    assert cache == [] and fingerprint(folder) == fingerprint(saved)
    with pytest.raises(InputError, match="which is not read; take the model it was made from"):
        Computing("torch").check(folder)
    with pytest.raises(InputError, match=f"^--dtype bfloat16 is for --runtime torch: {runtime} computes in float32$"):
        Computing(dtype="bfloat16").check(folder)
    with pytest.raises(InputError, match=f"--model {folder} is an export for --runtime {runtime}, not for onnx-int8: "):
        Computing("onnx-int8").check(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "config_sentence_transformers.json", "1_Pooling/config.json"])
def test_an_export_with_a_file_of_another(exported, tmp_path, name):
    """Nobody has compared its vectors, whatever the folder says of the cosine; prompts and pooling count too."""
    folder = tmp_path / "export"
    shutil.copytree(exported("onnx"), folder)
    with (folder / name).open("a") as file:
        file.write("\n")
    with pytest.raises(
        InputError, match=f"^--model {folder} .*/{name} is not the file that was exported; remove {folder}"
    ):
        Computing().open(str(folder))


def test_a_cache_that_cannot_be_made(saved, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="^--runtime: exports are kept below XDG_CACHE_HOME, .*is a file; a folder is"):
        Computing("onnx").open(str(saved))


def test_an_export_that_is_damaged(exported, tmp_path):
    folder = tmp_path / "export"
    shutil.copytree(exported("onnx"), folder)
    (folder / "modules.json").write_text("{")
    with pytest.raises(InputError, match=f"^--model {folder} "):
        Computing().open(str(folder))
    shutil.copyfile(exported("onnx") / "modules.json", folder / "modules.json")
    (folder / "onnx" / "model.onnx").write_bytes((exported("onnx") / "onnx" / "model.onnx").read_bytes()[:1000])
    with pytest.raises(InputError, match=f"^--model {folder} cannot be used: {folder}/onnx/model.onnx is not the file"):
        Computing().open(str(folder))
    about = json.loads((folder / "lbr_export.json").read_text())
    about["files"] = {}  # as of a file that another version of the runtime wrote
    (folder / "lbr_export.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=f"^--model {folder} cannot be used: {folder}/onnx/model.onnx: .*; remove "):
        Computing().open(str(folder))
    (folder / "onnx" / "model.onnx").unlink()
    with pytest.raises(InputError, match="cannot be used: onnx/model.onnx: missing; copy it whole again$"):
        Computing().check(str(folder))
    (folder / "lbr_export.json").write_text('{"runtime": "onnx"}')
    with pytest.raises(InputError, match="lbr_export.json is not what lbr export wrote: .*model_sha256.*; export the"):
        Computing().check(str(folder))


def test_refusals_before_a_model_is_opened(saved, backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(runtimes, "open_sentence_transformer", lambda *args: pytest.fail("was opened"))
    without = tmp_path / "without"
    shutil.copytree(saved, without)
    for name in ("tokenizer.json", "lbr_config.json", "lbr_reference.json"):  # as of a model of others
        (without / name).unlink()
    for computing, model, message in (
        (Computing("onnx", "bfloat16"), saved, "--dtype bfloat16 is for --runtime torch: onnx computes in float32"),
        (Computing("onnx", "auto"), saved, "--dtype auto is for --runtime torch"),
        (Computing("openvino"), without, "has no tokenizer.json"),
        (Computing("onnx"), "owner/name", "is not a directory; an export is made of a model on this machine"),
        (Computing("onnx"), "./absent", "--model ./absent is not a model: no such directory"),
        (Computing("onnx"), backbone, "is a language model, not an embedding model"),
        (Computing(), backbone, "is a language model, not an embedding model"),
    ):
        with pytest.raises(InputError) as error:
            computing.check(str(model))
        assert message in str(error.value)
    by_length = lbr_st.from_backbone(backbone, compression_ratio=5, max_seq_length=24)
    lbr_st.save(by_length, tmp_path / "by-length")
    with pytest.raises(InputError, match=r"a bottleneck token for every 5 tokens \(--compression-ratio\)"):
        Computing("onnx").check(str(tmp_path / "by-length"))
    for settings, message in (
        ({"runtime": "gguf"}, "--runtime must be one of torch, onnx, openvino, onnx-int8, openvino-int8, got gguf"),
        ({"dtype": "int8"}, "--dtype must be one of float32, float16, bfloat16, auto, got int8"),
        ({"dimensions": 0}, "--dimensions must be a whole number of at least 1, got 0"),
    ):
        with pytest.raises(InputError) as error:
            Computing(**settings)
        assert str(error.value) == message


@pytest.mark.parametrize(("absent", "is_export"), [("onnxscript", False), ("onnxruntime", True)])
def test_absent_packages(saved, exported, monkeypatch, absent, is_export):
    """What makes an export is needed where there is none; to run one, its runtime alone."""
    folder = str(exported("onnx"))
    monkeypatch.setitem(sys.modules, absent, None)
    message = rf"--runtime onnx needs {absent}, which is not installed: pip install 'lbr-st\[export\]'"
    with pytest.raises(InputError, match=message):
        Computing("onnx").check(folder if is_export else str(saved))
    if not is_export:
        Computing("onnx").check(folder)


def test_threads_are_those_of_torch(exported, monkeypatch):
    """`OMP_NUM_THREADS` is what torch goes by, and a Ray actor has its own number."""
    import onnxruntime
    import openvino

    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    given = {}
    own_session, own_compile = onnxruntime.InferenceSession, openvino.compile_model

    def session(file, options, **more):
        given["onnx"] = options.intra_op_num_threads
        return own_session(file, options, **more)

    def compile_model(file, device, settings):
        given["openvino"] = settings["INFERENCE_NUM_THREADS"]
        return own_compile(file, device, settings)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(openvino, "compile_model", compile_model)
    for runtime in ("onnx", "openvino"):
        FORMATS[runtime].open(exported(runtime) / FORMATS[runtime].file)
    assert given == {"onnx": 3, "openvino": 3}


def test_what_tells_vectors_apart(saved, exported):
    assert Computing().variant(str(saved)) == Computing("torch").variant(str(saved)) == ""
    assert Computing(dtype="bfloat16", dimensions=8).variant(str(saved)) == "-bfloat16-8d"
    assert Computing(dimensions=8).variant(str(exported("onnx"))) == "-onnx-8d"


def test_type_and_dimensions(saved):
    model = Computing(dtype="bfloat16", dimensions=8).open(str(saved))
    assert model.dtype == torch.bfloat16 and model.get_embedding_dimension() == 8
    assert Computing(dtype="auto").open(str(saved)).dtype == torch.float32
    exact = open_sentence_transformer(str(saved)).encode(TEXTS, truncate_dim=8, normalize_embeddings=True)
    assert abs(TextEncoder(model).encode(TEXTS, prompt="").numpy() - exact).max() < 0.1
    for refuse in (Computing(dimensions=9).open, Computing(dimensions=9).check):
        with pytest.raises(InputError, match=f"^--dimensions 9: {saved} was trained for 8, 16, 32; lbr align"):
            refuse(str(saved))


def test_an_export_is_evaluated(saved, exported, tmp_path):
    """Through mteb, whose scores of it are filed beside those of the model."""
    from lbr_st.evaluation.own_data import evaluate, open_for_evaluation

    pairs = [{"query": f"{n} {text}", "document": f"{text} {n}"} for n in range(4) for text in TEXTS]
    write_jsonl(tmp_path / "test.jsonl", pairs)
    computing, folder = Computing(), str(exported("onnx"))
    opened = open_for_evaluation(folder, None, computing.open, computing.variant(folder))
    assert opened.mteb_model_meta.revision == f"{fingerprint(saved)[:40]}-onnx"
    scores, expected = (evaluate(each, tmp_path / "test.jsonl") for each in (opened, str(saved)))
    assert scores["ndcg_at_10"] == pytest.approx(expected["ndcg_at_10"], abs=1e-3) and scores["ndcg_at_10"] > 0.1
