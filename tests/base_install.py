"""Code that a process begins with in which packages of the extras are not installed, as far as it can tell."""

from lbr_st.errors import EXTRAS

# sentence-transformers asks for the metadata of a package before it imports it.
HIDE = """
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, PackageNotFoundError

hidden = {hidden}
find_spec, from_name = PathFinder.find_spec, Distribution.from_name


def find_metadata(name):
    if name in hidden:
        raise PackageNotFoundError(name)
    return from_name(name)


# Bound, as it was: pytest keeps it as an attribute of a class of its own.
PathFinder.find_spec = classmethod(lambda _, name, *args: None if name in hidden else find_spec(name, *args))
Distribution.from_name = staticmethod(find_metadata)
"""


def without(modules):
    """Return the code for a process without some modules; scipy stays, it comes with sentence-transformers."""
    return HIDE.format(hidden=sorted({*modules} - {"scipy"}))


BASE_INSTALL = without(EXTRAS)
