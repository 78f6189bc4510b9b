"""Learn Before Represent (arXiv 2601.11124) for sentence-transformers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lbr_st.errors import naming_the_extra

if TYPE_CHECKING:
    from lbr_st import data as data
    from lbr_st.adaptation.config import AdaptConfig as AdaptConfig
    from lbr_st.adaptation.run import adapt as adapt
    from lbr_st.alignment.config import AlignConfig as AlignConfig
    from lbr_st.alignment.run import align as align
    from lbr_st.distilling.config import DistillConfig as DistillConfig
    from lbr_st.distilling.run import distill as distill
    from lbr_st.errors import InputError as InputError
    from lbr_st.evaluation.own_data import evaluate as evaluate
    from lbr_st.evaluation.read_out import read_out as read_out
    from lbr_st.learning.config import LearnConfig as LearnConfig
    from lbr_st.learning.run import learn as learn
    from lbr_st.model.bottleneck import BottleneckTransformer as BottleneckTransformer
    from lbr_st.model.merging import merge as merge
    from lbr_st.model.nested import with_first_tokens as with_first_tokens
    from lbr_st.model.saving import from_backbone as from_backbone
    from lbr_st.model.saving import load as load
    from lbr_st.model.saving import save as save
    from lbr_st.recommending.config import RecommendConfig as RecommendConfig
    from lbr_st.recommending.recommender import open_recommender as open_recommender
    from lbr_st.recommending.run import recommend as recommend
    from lbr_st.use.nested import encode_vectors as encode_vectors

__version__ = "0.1.0"

# Where a name is made. Imported when it is first asked for: torch and sentence-transformers take seconds.
_EXPORTS = {
    "AdaptConfig": "lbr_st.adaptation.config",
    "AlignConfig": "lbr_st.alignment.config",
    "BottleneckTransformer": "lbr_st.model.bottleneck",
    "DistillConfig": "lbr_st.distilling.config",
    "InputError": "lbr_st.errors",
    "LearnConfig": "lbr_st.learning.config",
    "RecommendConfig": "lbr_st.recommending.config",
    "adapt": "lbr_st.adaptation.run",
    "align": "lbr_st.alignment.run",
    "distill": "lbr_st.distilling.run",
    "encode_vectors": "lbr_st.use.nested",
    "evaluate": "lbr_st.evaluation.own_data",
    "from_backbone": "lbr_st.model.saving",
    "learn": "lbr_st.learning.run",
    "load": "lbr_st.model.saving",
    "merge": "lbr_st.model.merging",
    "open_recommender": "lbr_st.recommending.recommender",
    "read_out": "lbr_st.evaluation.read_out",
    "recommend": "lbr_st.recommending.run",
    "save": "lbr_st.model.saving",
    "with_first_tokens": "lbr_st.model.nested",
}
__all__ = [*_EXPORTS, "data"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name == "data":
        return importlib.import_module("lbr_st.data")
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with naming_the_extra(f"lbr_st.{name}"):
        return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
