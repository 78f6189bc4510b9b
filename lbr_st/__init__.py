"""Learn Before Represent (arXiv 2601.11124) for sentence-transformers."""

from lbr_st.layouts import from_backbone, load, save
from lbr_st.modules import BottleneckTransformer

__version__ = "0.1.0"
__all__ = ["BottleneckTransformer", "from_backbone", "load", "save"]
