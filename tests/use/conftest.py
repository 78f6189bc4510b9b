import copy

import pytest
from helpers import TEXTS
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.files import write_jsonl
from lbr_st.use.encode import EncodeConfig, encode_corpus


@pytest.fixture(scope="session")
def saved(_shared_model, tmp_path_factory):
    """Directory of a portable model with prompts. Tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    model = copy.deepcopy(_shared_model)
    model.prompts |= {"query": "ask: ", "document": "find this: "}
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
