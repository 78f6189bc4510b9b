import copy
import shutil

import pytest
from helpers import TEXTS
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.files import write_jsonl
from lbr_st.use.encode import EncodeConfig, encode_corpus


@pytest.fixture(scope="session")
def saved(_shared_model, tmp_path_factory):
    """Directory of a portable model with prompts, said to be trained for shorter vectors too. It is not changed."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    model = copy.deepcopy(_shared_model)
    model.prompts |= {"query": "ask: ", "document": "find this: "}
    model[0].model.config.matryoshka_dimensions = [8, 16]
    lbr_st.save(model, folder)
    return folder


@pytest.fixture(scope="session")
def opened(saved):
    """The same model as everyone opens it."""
    return SentenceTransformer(str(saved))


@pytest.fixture(scope="session")
def encoded(saved, tmp_path_factory):
    """The output of ``lbr encode`` in a precision, with its texts, in files of five rows; made when it is asked for."""
    made = {}

    def folder_of(precision, with_text=True):
        if (precision, with_text) not in made:
            folder = tmp_path_factory.mktemp(precision)
            rows = [{"_id": f"d{n}", "text": f"{n} {text}"} for n, text in enumerate([*TEXTS, *TEXTS])]
            write_jsonl(folder / "corpus.jsonl", rows)
            made[precision, with_text] = folder / "vectors"
            settings = {"precision": precision, "shard_rows": 5, "batch_tokens": 64, "with_text": with_text}
            source = str(folder / "corpus.jsonl")
            encode_corpus(EncodeConfig(model=str(saved), data=[source], output_dir=folder / "vectors", **settings))
        return made[precision, with_text]

    return folder_of


@pytest.fixture(scope="session")
def exported(saved, tmp_path_factory):
    """The folder of an export of that model, made when it is asked for."""
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    from lbr_st.use import export_formats
    from lbr_st.use.export import export

    made = {}

    def export_of(runtime):
        if runtime not in made:
            folder = tmp_path_factory.mktemp(runtime) / "export"
            with pytest.MonkeyPatch.context() as patch:
                if runtime == "openvino":  # which is made through the same file
                    file = export_of("onnx") / "onnx/model.onnx"
                    patch.setattr(export_formats, "write_onnx", lambda model, path: shutil.copyfile(file, path))
                made[runtime] = export(saved, runtime, folder).folder
        return made[runtime]

    return export_of


@pytest.fixture
def cache(exported, tmp_path, monkeypatch):
    """A cache of exports that is empty, and the runtimes that were exported into it: copies of what was made before."""
    from lbr_st.use import runtimes

    asked = []

    def export(model, to, output_dir):
        asked.append(to)
        shutil.copytree(exported(to), output_dir, dirs_exist_ok=True)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(runtimes, "export", export)
    return asked
