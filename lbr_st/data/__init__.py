"""Any text in, a prepared set out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lbr_st.errors import naming_the_extra

if TYPE_CHECKING:
    from lbr_st.data.config import PrepareConfig as PrepareConfig
    from lbr_st.data.mining import MineConfig as MineConfig
    from lbr_st.data.mining import mine as mine
    from lbr_st.data.prepared_set import PreparedSet as PreparedSet
    from lbr_st.data.preparing import prepare as prepare

# Imported when it is first asked for, see lbr_st.
_EXPORTS = {
    "MineConfig": "lbr_st.data.mining",
    "PrepareConfig": "lbr_st.data.config",
    "PreparedSet": "lbr_st.data.prepared_set",
    "mine": "lbr_st.data.mining",
    "prepare": "lbr_st.data.preparing",
}
__all__ = [*_EXPORTS]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with naming_the_extra(f"lbr_st.data.{name}"):
        return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
