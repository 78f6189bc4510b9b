"""Learn Before Represent (arXiv 2601.11124) for sentence-transformers."""

from lbr_st.model.bottleneck import BottleneckTransformer
from lbr_st.model.saving import from_backbone, load, save

__version__ = "0.1.0"
__all__ = ["BottleneckTransformer", "from_backbone", "load", "save"]
