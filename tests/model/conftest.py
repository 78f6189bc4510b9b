import pytest
from helpers import make_bert

import lbr_st


@pytest.fixture
def bert(tmp_path):
    """Directory of an embedding model of another kind."""
    return make_bert(tmp_path / "bert")


@pytest.fixture
def portable(model, tmp_path):
    """Directory of a model of this package in the portable layout."""
    lbr_st.save(model, tmp_path / "portable")
    return str(tmp_path / "portable")


@pytest.fixture
def native(backbone, tmp_path):
    """The same in the native layout, with bottleneck tokens by length."""
    lbr_st.save(lbr_st.from_backbone(backbone, compression_ratio=5, max_seq_length=24), tmp_path / "native")
    return str(tmp_path / "native")
