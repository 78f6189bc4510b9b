"""The domain of the installed packages: what a pair is, and how packages are split."""

from lbr_st.data.installed_packages import Function, documented_functions, functions_of_file, installed_pairs

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
    code = "def first(a):\n    if a:\n        return 1\n    return 2"
    assert first == Function(7, 6, 14, "Return the first thing of all.", code)
    assert (second.line, second.docstring) == (16, "Wait for the second.")
    (tmp_path / "b.py").write_text("print 'python 2'")
    assert functions_of_file(tmp_path / "b.py") == []


def test_functions_within_functions():
    source = 'def a():\n    """Outer."""\n    def b():\n        """Inner."""\n'
    assert [f.docstring for f in documented_functions(source)] == ["Outer.", "Inner."]
    assert [f.docstring for f in documented_functions(source, nested=False)] == ["Outer."]


def test_each_docstring_and_each_function_once(tmp_path, monkeypatch):
    from lbr_st.data import installed_packages as installed

    function = 'def {}():\n    """{}"""\n    x = {}\n    return x\n'
    sources = [("f", "Return the number of it.", 1), ("g", "Return the number of it.", 2), ("h", "Short.", 3),
               ("f", "Return another number of it.", 1), ("i", "Return the fourth number of it.", 4)]  # fmt: skip
    (tmp_path / "m.py").write_text("".join(function.format(*each) for each in sources))
    monkeypatch.setattr(installed, "installed_files", lambda: [("p", "p/m.py", tmp_path / "m.py")])
    found = list(installed_pairs())
    assert [(r["id"], r["query"], r["package"]) for r in found] == [
        ("p/m.py:1", "Return the number of it.", "p"),
        ("p/m.py:17", "Return the fourth number of it.", "p"),
    ]
