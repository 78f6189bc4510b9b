"""Code that a process begins with in which no package of an extra is installed, as far as it can tell."""

from lbr_st.errors import EXTRAS

# scipy comes with sentence-transformers, which asks for the metadata of a package before it imports it.
BASE_INSTALL = f"""
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, PackageNotFoundError

hidden = {sorted({*EXTRAS} - {"scipy"})!r}
find_spec, from_name = PathFinder.find_spec, Distribution.from_name


def find_metadata(name):
    if name in hidden:
        raise PackageNotFoundError(name)
    return from_name(name)


PathFinder.find_spec = staticmethod(lambda name, *args: None if name in hidden else find_spec(name, *args))
Distribution.from_name = staticmethod(find_metadata)
"""
