import json

import pytest
from helpers import Server, make_bert, make_chat_backbone

from lbr_st.adaptation.config import AdaptConfig


@pytest.fixture(scope="session")
def chat_backbone(tmp_path_factory) -> str:
    """Directory of a tiny language model with a chat template."""
    return make_chat_backbone(tmp_path_factory.mktemp("chat"))


@pytest.fixture(scope="session")
def embedding_model(tmp_path_factory) -> str:
    """Directory of an embedding model of another kind."""
    return make_bert(tmp_path_factory.mktemp("bert") / "model")


@pytest.fixture
def server(monkeypatch):
    """A real server on this machine, which is tried again without waiting."""
    monkeypatch.setattr("lbr_st.adaptation.endpoint.WAITS", (0.0, 0.0, 0.0))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = Server()
    yield server
    server.close()


THINGS = ["iron", "salt", "copper", "zinc", "gold", "lead", "tin", "silver", "nickel", "cobalt"]
PLACES = ["rocks", "rivers", "plants", "blood", "old coins", "the sea"]
STEPS = {"num_train_epochs": 1, "max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-3}


@pytest.fixture
def handbook(tmp_path):
    """A page for each thing, a section for each place: 60 passages with headings."""
    folder = tmp_path / "handbook"
    folder.mkdir()
    for thing in THINGS:
        sections = [
            f"## {thing} in {place}\n\nMuch {thing} is found in {place}, where people of long ago looked for it.\n"
            for place in PLACES
        ]
        (folder / f"{thing}.md").write_text("\n".join([f"# About {thing}\n", *sections]))
    return folder


@pytest.fixture
def config(handbook, backbone, tmp_path):
    general = tmp_path / "general.jsonl"
    rows = [{"query": f"sort {n}", "document": f"def sort_{n}(): sorted({n})"} for n in range(12)]
    general.write_text("".join(json.dumps(row) + "\n" for row in rows))
    titles = tmp_path / "titles.jsonl"
    rows = [
        {"query": f"Where is {thing} in {place}?", "document": f"Much {thing} lies in {place}.", "kind": "question"}
        for thing in THINGS
        for place in PLACES
    ]
    titles.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return AdaptConfig(
        sources=[handbook],
        queries=str(titles),
        model=str(backbone),
        output_dir=tmp_path / "out",
        general=str(general),
        max_length=48,
        learn=STEPS,
        align=STEPS,
    )
