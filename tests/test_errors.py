"""What goes wrong and is no bug of ours is one line with what to do; a bug is a traceback, and where to report it."""

import contextlib
import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from helpers import PACKAGE, fork
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from safetensors import SafetensorError
from tokenizers import Tokenizer
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

import lbr_st
from lbr_st.cli import main as lbr
from lbr_st.errors import InputError, UnfinishedError, foreseen, only_warning, raised_by_us, where_to_report


def import_error(text, name=None):
    return ImportError(text, name=name)


def system_error(number, path="out/model.safetensors"):
    return OSError(number, os.strerror(number), path)


LESS = "take less at once: a shorter --max-length; in training"
FORESEEN = [
    (InputError("one line"), "one line"),
    (UnfinishedError("the model was not saved"), "the model was not saved"),
    (system_error(errno.ENOSPC), "out/model.safetensors: No space left on device; make room on the disk"),
    (system_error(errno.EACCES), "out/model.safetensors: Permission denied; give yourself the right to it, or choose"),
    (system_error(errno.EROFS), "out/model.safetensors: Read-only file system; choose a place that can be written to"),
    (system_error(errno.EMFILE), "out/model.safetensors: Too many open files; let a process open more files"),
    (system_error(errno.EFBIG), "out/model.safetensors: File too large; let files be larger, with ulimit -f"),
    (Exception("No space left (os error 28)"), "No space left (os error 28); make room on the disk"),
    (system_error(errno.ENOENT), "out/model.safetensors: No such file or directory"),
    (OSError("what a library says"), "what a library says"),
    (
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 191488 vs 191380"),
        "a file cannot be written to its end ([enforce fail at inline_container.cc:672] . unexpected pos 191488 vs "
        "191380); make room on the disk",
    ),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device; make room on the disk"),
    (MemoryError(), f"out of memory (MemoryError): {LESS}"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried 2"), f"of memory (CUDA out of memory. Tried 2): {LESS}"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory ("),
    (RuntimeError("std::bad_alloc"), f"out of memory (std::bad_alloc): {LESS}"),
    (RuntimeError("can't start new thread"), f"out of memory (can't start new thread): {LESS}"),
    (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), f"out of memory ([Errno 12] Cannot allocate memory): {LESS}"),
    (SafetensorError("Cannot allocate memory (os error 12)"), "out of memory (Cannot allocate memory (os error 12)): "),
    (import_error("libx.so: failed to map segment from shared object"), f"from shared object): {LESS}"),
    (RuntimeError("Found no NVIDIA driver on your system"), "the GPU cannot be used (Found no NVIDIA driver on"),
    (import_error("No module named 'peft'", "peft"), "No module named 'peft': pip install 'lbr-st[train]'"),
    (ModuleNotFoundError("No module named 'galore'", name="galore.x"), "the package galore is not installed: pip"),
    (import_error("cannot import name 'Thing' from 'datasets' (x.py)", "datasets"), "pip install 'lbr-st[data]'"),
    (import_error("cannot import name 'Thing' from 'torch' (x.py)", "torch"), "packages that do not fit together; pip"),
    (import_error("requires bitsandbytes:\n`pip install bitsandbytes`"), "requires bitsandbytes: `pip install bits"),
    (ConnectionError("refused"), "refused: is there a network?"),
    (TimeoutError("timed out"), "timed out: is there a network?"),
    (OfflineModeIsEnabled("offline"), "offline: is there a network?"),
    (LocalEntryNotFoundError("not in the cache"), "not in the cache: is there a network?"),
    (SafetensorError("Error while deserializing header"), "Error while deserializing header: is the file whole"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "expected"), FORESEEN, ids=[type(error).__name__ for error, _ in FORESEEN])
def test_errors_that_are_no_bug_are_one_line_with_what_to_do(error, expected):
    line = foreseen(error)
    assert expected in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "error",
    [
        KeyError("name"), TypeError("unsupported"), ValueError("bad"), AssertionError(), AttributeError("x"),
        ZeroDivisionError("division"), RuntimeError("shape mismatch"), NotImplementedError(), RecursionError(),
        import_error("cannot import name 'gone' from 'lbr_st.files'", "lbr_st.files"),
    ],
)  # fmt: skip
def test_a_bug_of_ours_is_no_line(error):
    assert foreseen(error) is None


def test_what_the_tokenizers_library_raises(tmp_path):
    """It has no class of its own; what others raise without one may be anything."""
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(Exception) as error:
        PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    assert type(error.value) is Exception
    assert foreseen(error.value).startswith("the tokenizer cannot be used (")
    with pytest.raises(Exception) as other:
        raise Exception("no reason")
    assert foreseen(other.value) is None


def test_who_raised_it():
    with pytest.raises(TypeError) as theirs:
        Tokenizer.from_str(3)
    assert not raised_by_us(theirs.value)
    with pytest.raises(InputError) as ours:
        lbr_st.load("nobody/never-published")
    assert raised_by_us(ours.value)
    assert not raised_by_us(ValueError())


def ended(error, capsys, monkeypatch=None):
    def run():
        raise error

    with pytest.raises(SystemExit) as end:
        lbr.run_command(run)
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"), [(InputError("wrong"), 2), (UnfinishedError("wrong"), 1), (OSError("wrong"), 1)]
)
def test_exit_codes(error, code, capsys):
    assert ended(error, capsys) == (code, "error: wrong\n")


def test_what_is_left_is_said_in_the_same_line(capsys):
    error = MemoryError()
    error.add_note("The weights of step 4 are in out/checkpoints/checkpoint-4")
    code, printed = ended(error, capsys)
    assert code == 1
    assert printed.startswith("error: out of memory (MemoryError): ")
    assert printed.endswith(". The weights of step 4 are in out/checkpoints/checkpoint-4\n")
    assert printed.count("\n") == 1


def test_an_error_that_was_raised_for_itself_ends(capsys):
    error = InputError("not one batch")
    error.__cause__ = error
    assert ended(error, capsys) == (2, "error: not one batch\n")


def test_memory_that_a_limit_of_the_shell_keeps_back_is_named(capsys, monkeypatch):
    """Also where a library took it for a fault of the file that it was reading: then the input is right."""
    monkeypatch.setattr("resource.getrlimit", lambda kind: (3 * 2**30, -1))
    error = InputError("m: model.safetensors: not whole; download or copy it again")
    error.__cause__ = OSError(errno.ENOMEM, "Cannot allocate memory")
    code, printed = ended(error, capsys)
    assert code == 1
    assert printed.startswith(
        "error: out of memory ([Errno 12] Cannot allocate memory): a process may have 3.0 GiB of addresses here, by "
        "ulimit -v; let it have more, or take less at once: a shorter --max-length"
    )
    assert "ulimit -v" in foreseen(OSError("libtorch.so: failed to map segment from shared object"))
    assert "ulimit" not in foreseen(torch.OutOfMemoryError("CUDA out of memory"))


def test_a_bug_is_a_traceback_and_says_where_to_report_it(capsys):
    error = KeyError("name")
    error.add_note("The weights of step 4 are in out")
    code, printed = ended(error, capsys)
    assert code == 1
    first, *_, note, line = printed.splitlines()
    assert first == "Traceback (most recent call last):"
    assert note == "The weights of step 4 are in out"
    assert line == f"error: {where_to_report()}"
    assert line.startswith(
        "error: this is a bug of lbr-st, not a fault of your input. Please report it where you got lbr-"
    )
    assert f"Python {sys.version.split()[0]}" in line and f"torch {torch.__version__.split('+')[0]}" in line


def test_the_address_of_the_project_is_named_where_it_has_one(monkeypatch):
    from importlib import metadata

    about = metadata.metadata("torch")
    del about["Project-URL"]
    about["Project-URL"] = "Repository, https://example.org/lbr-st"
    monkeypatch.setattr(metadata, "metadata", lambda name: about)
    assert "Please report it at https://example.org/lbr-st, with" in where_to_report()
    about["Project-URL"] = "Issues, https://example.org/lbr-st/issues"
    assert "Please report it at https://example.org/lbr-st/issues, with" in where_to_report()


def test_a_library_in_rust_that_gives_up_is_one_line(capsys):
    PanicException = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    assert ended(PanicException("index out of bounds"), capsys) == (
        1,
        "error: index out of bounds: a library written in Rust gave up; are its files whole?\n",
    )


def test_who_wants_to_end_ends(capsys):
    assert ended(SystemExit(3), capsys) == (3, "")


def test_ctrl_c_is_one_line_with_what_is_there(capsys):
    error = KeyboardInterrupt()
    error.add_note("The weights of step 4 are in out")
    assert ended(error, capsys) == (130, "\nstopped by Ctrl-C. The weights of step 4 are in out\n")


READY = "print('ready', flush=True), time.sleep(60)"
INTERRUPTED = {
    "work": f"run_command(lambda: ({READY}))",
    "imports": f"importlib.import_module = lambda name: ({READY}); main(['search'])",
    "a library that says it otherwise": f"""
def read():
    try:
        {READY}
    except KeyboardInterrupt:
        raise ImportError('cannot import name x', name='numpy')
run_command(read)""",
}


@pytest.mark.parametrize(
    ("program", "number", "name", "code"),
    [
        *((program, signal.SIGINT, "Ctrl-C", 130) for program in INTERRUPTED.values()),
        (INTERRUPTED["work"], signal.SIGTERM, "SIGTERM", 143),
    ],
    ids=[*INTERRUPTED, "terminated"],
)
def test_a_command_that_is_interrupted(program, number, name, code, tmp_path):
    """A real signal, wherever it comes; what is temporary goes."""
    program = f"import tempfile\nfolder = tempfile.TemporaryDirectory()\n{program}"
    command = [
        sys.executable,
        "-c",
        f"import importlib, time\nfrom lbr_st.cli.main import main, run_command\n{program}",
    ]
    env = os.environ | {"PYTHONPATH": str(PACKAGE), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        assert [*tmp_path.iterdir()]
        process.send_signal(number)
        assert process.stderr.read() == f"\nstopped by {name}\n"
        assert process.wait() == code
    assert not [*tmp_path.iterdir()]


def test_where_interrupts_are_ignored_they_stay_so():
    """As for a job that a script starts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        lbr.run_command(lambda: os.kill(os.getpid(), signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    lbr.run_command(lambda: None)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_stream_that_is_closed(closed, tmp_path):
    """The work is done, and no file takes the number of a stream."""
    program = (
        "import sys; from lbr_st.cli.main import run_command; "
        f"run_command(lambda: (print('a'), print('b', file=sys.stderr), open({str(tmp_path / 'f')!r}, 'w').write('c')))"
    )
    env = os.environ | {"PYTHONPATH": str(PACKAGE)}
    command = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, program]
    done = subprocess.run(command, capture_output=True, env=env, text=True)
    assert done.returncode == 0 and (tmp_path / "f").read_text() == "c"
    assert done.stdout == ("" if "1>" in closed else "a\n") and done.stderr == ("" if "2>" in closed else "b\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_one_line():
    program = "from lbr_st.cli.main import run_command; run_command(lambda: print('a'))"
    env = os.environ | {"PYTHONPATH": str(PACKAGE)}
    command = ["sh", "-c", 'exec "$0" -c "$1" > /dev/full', sys.executable, program]
    done = subprocess.run(command, capture_output=True, env=env, text=True)
    assert (done.returncode, done.stderr) == (1, "error: No space left on device; make room on the disk\n")


def test_a_library_that_refuses_the_environment_is_one_line(tmp_path, monkeypatch, capsys):
    """It reads it when it is imported: a bug of nobody here."""
    (tmp_path / "reads_environment.py").write_text("import os\nNUMBER = int(os.environ['SECONDS_TO_WAIT'])\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SECONDS_TO_WAIT", "abc")
    with pytest.raises(ValueError) as error:
        import reads_environment  # noqa: F401
    line = "reads_environment cannot be imported (invalid literal for int() with base 10: 'abc'): does the environment"
    assert foreseen(error.value).startswith(line)


def test_a_backend_of_pictures_that_is_none_does_no_harm(tmp_path):
    """Pictures go to files: a child sees one that every machine has."""
    program = "from lbr_st.cli.main import run_command; run_command(lambda: __import__('matplotlib'))"
    env = os.environ | {"PYTHONPATH": str(PACKAGE), "MPLBACKEND": "foo"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=env, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_pipe_that_nobody_reads():
    """`lbr data list | head -1`."""
    program = "from lbr_st.cli import data, main; main.run_command(lambda: [data._list(None) for _ in range(1000)])"
    command = [sys.executable, "-c", program]
    env = os.environ | {"PYTHONPATH": str(PACKAGE)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True) as process:
        assert process.stdout.readline() == "chemistry\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 141  # what a shell calls a broken pipe


def unread_bar():
    tqdm.set_lock(threading.RLock())  # it is never let go: the one that is there is shared with the tests that follow
    tqdm([1], disable=False).close()


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (lambda: sys.stderr.write("a line\n"), 141),
        (unread_bar, 141),
        (lambda: (_ for _ in ()).throw(InputError("wrong")), 2),
        (lambda: {}["name"], 1),
    ],
)
def test_errors_that_nobody_reads(work, code):
    """`lbr ... 2>&1 | head -1`: also where it is a library that says something."""
    reader, writer = os.pipe()
    os.close(reader)
    process = fork(lambda: lbr.run_command(work), writer, writer)
    os.close(writer)
    process.join(60)
    assert process.exitcode == code


def test_a_pipe_of_a_library_is_another(tmp_path):
    """What breaks there is no sign that nobody reads what is said."""

    def work():
        reader, writer = socket.socketpair()
        reader.close()
        exec("writer.sendall(b'x')", {"writer": writer})  # a line of no module of this package

    with open(tmp_path / "said.txt", "wb") as file:
        process = fork(lambda: lbr.run_command(work), file.fileno(), file.fileno())
        process.join(60)
    assert process.exitcode == 1 and "Broken pipe" in (tmp_path / "said.txt").read_text()


def test_the_folder_of_a_command_that_is_gone(tmp_path):
    def work():
        os.rmdir(tmp_path / "gone")
        Path().absolute()

    (tmp_path / "gone").mkdir()
    with contextlib.chdir(tmp_path / "gone"), open(tmp_path / "said.txt", "wb") as file:
        process = fork(lambda: lbr.run_command(work), file.fileno(), file.fileno())
        process.join(60)
    said = "error: the folder that this was started in is gone: change to one that is there\n"
    assert (process.exitcode, (tmp_path / "said.txt").read_text()) == (1, said)


def test_characters_that_the_terminal_has_not():
    env = os.environ | {"PYTHONPATH": str(PACKAGE), "PYTHONIOENCODING": "ascii"}
    program = "from lbr_st.cli.main import run_command; run_command(lambda: print('\\xe4\\ud83d'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=env, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\xe4\\ud83d\n", "")


def test_what_is_worth_less_than_its_work_is_a_warning(caplog):
    logger = logging.getLogger("lbr_st.test")
    with only_warning(logger, "training.png"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/training.png")
    [record] = caplog.records
    assert record.getMessage() == (
        "training.png could not be written: out/training.png: No space left on device; make room on the disk"
    )
    assert not record.exc_info
    caplog.clear()
    with only_warning(logger, "training.png"):
        raise KeyError("title")
    [record] = caplog.records
    assert record.getMessage() == "training.png could not be written: 'title'" and record.exc_info
    with pytest.raises(KeyboardInterrupt), only_warning(logger, "training.png"):
        raise KeyboardInterrupt
