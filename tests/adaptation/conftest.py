import pytest
from helpers import Server, make_bert, make_chat_backbone


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
