"""Memory that is freed and wanted again is not asked of the system once more."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource
from lbr_st.cli.memory import keep_freed_memory

c = ctypes.CDLL(None)
c.malloc.restype = ctypes.c_void_p
c.free.argtypes = [ctypes.c_void_p]
SIZE, TIMES = 64 * 2**20, 10


def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(TIMES):
        piece = c.malloc(SIZE)
        ctypes.memset(piece, 1, SIZE)
        c.free(piece)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


first = pages()
keep_freed_memory()
print(first, pages())
"""


def asked_for(**environment):
    """Pages of the system that the same ten pieces of memory took, before and after."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment)
    return [int(number) for number in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_freed_memory_is_kept():
    """The first piece is the only one that takes new pages; unless the environment has its own settings."""
    before, after = asked_for()
    assert after < before / 5
    before, after = asked_for(MALLOC_TRIM_THRESHOLD_="131072")
    assert after > before / 2
