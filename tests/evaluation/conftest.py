import copy

import pytest

import lbr_st


@pytest.fixture(scope="session")
def saved(_shared_model, tmp_path_factory):
    """Directory of a portable model with prompts. Tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    model = copy.deepcopy(_shared_model)
    model.prompts |= {"query": "q: ", "document": "d: "}
    lbr_st.save(model, folder)
    return folder
