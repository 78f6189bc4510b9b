"""The domain of the installed packages: what a pair is, and how packages are split."""

from lbr_st.code_domain import functions_of_file, split_by_package

SOURCE = '''
import os


class Thing:
    @staticmethod
    def first(a):
        """Return the first thing of all.

        More words.
        """
        if a:
            return 1
        return 2

    async def second(self): "Wait for the second."; return 2

    def without(self):
        return 3
'''


def test_functions_of_a_file(tmp_path):
    """Docstring and decorators cut out, indentation taken away, line numbers right."""
    (tmp_path / "a.py").write_text(SOURCE)
    first, second = functions_of_file(tmp_path / "a.py")
    assert first == (7, "Return the first thing of all.", "def first(a):\n    if a:\n        return 1\n    return 2")
    assert second[:2] == (16, "Wait for the second.")
    (tmp_path / "b.py").write_text("print 'python 2'")
    assert functions_of_file(tmp_path / "b.py") == []


def test_no_package_is_on_two_sides():
    pairs = [
        {"id": f"{p}-{n}", "query": f"q {p} {n}", "document": f"d {p} {n}", "package": f"p{p}"}
        for p in range(60)
        for n in range(500 if p == 0 else 70)
    ]
    split = split_by_package(pairs)
    sides = {name: {row["package"] for row in rows} for name, rows in split.items()}
    assert not sides["train"] & sides["test"] and not sides["train"] & sides["dev"] and not sides["dev"] & sides["test"]
    assert sum(map(len, split.values())) == len(pairs)
    assert 1000 <= len(split["test"]) < 1070
    assert 500 <= len(split["dev"]) < 570
    assert "p0" in sides["train"]
    assert split == split_by_package(pairs[::-1])
