"""Errors for the person who reads them: one line that says what was wrong, where, and what to do."""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType

LONGEST_LINE = 300

# Which extra of this package brings a package. What is not here comes with the base install.
EXTRAS = {
    "accelerate": "train",
    "bitsandbytes": "qlora",
    "bm25s": "eval",
    "bs4": "data",
    "datasets": "data",
    "gguf": "gguf",
    "liger_kernel": "gpu",
    "markdown_it": "data",
    "markdownify": "data",
    "matplotlib": "train",
    "mteb": "eval",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "openvino": "export",
    "peft": "train",
    "pyarrow": "data",
    "ray": "ray",
    "scipy": "data",
    "semantic_text_splitter": "data",
    "starlette": "serve",
    "Stemmer": "eval",
    "uvicorn": "serve",
}

# What the operating system says, by number, and what to do about it.
SYSTEM = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room on the disk",
    errno.EACCES: "give yourself the right to it, or choose another place",
    errno.EPERM: "give yourself the right to it, or choose another place",
    errno.EROFS: "choose a place that can be written to",
    errno.EMFILE: "let a process open more files, with ulimit -n",
    errno.ENFILE: "let the machine open more files",
    errno.EFBIG: "let files be larger, with ulimit -f",
}
OF_RIGHTS = (errno.EACCES, errno.EPERM)
OF_RUST = re.compile(r"\(os error (\d+)\)$")  # how libraries written in it end what the system says
LESS_AT_ONCE = (
    "take less at once: a shorter --max-length; in training --per-device-train-batch-size, or --mini-batch-size in "
    "stage 2; elsewhere --batch-tokens or --batch-size"
)
NO_NETWORK = "is there a network? What is on this machine can be named by its folder"
# What errors of memory say that have no class of their own; each thread and each library takes addresses too.
OF_MEMORY = re.compile(
    "out of memory|can(no|'|)t allocate memory|not enough memory|bad_alloc|CUBLAS_STATUS_ALLOC_FAILED|"
    "can't start new thread|failed to map segment",
    re.IGNORECASE,
)
# How torch says that a file ends too soon that it writes, as on a disk that is full: it has no number of the system's.
OF_WRITING = ("unexpected pos", "iostream error", "failed writing file")
# What a GPU says that is not in order.
OF_THE_GPU = ("NVIDIA driver", "CUDA driver", "no kernel image is available", "busy or unavailable", "NCCL error")
# Packages whose own errors are about the world outside: the network, files, other programs. What to do about them.
OUTSIDE = {
    "huggingface_hub": NO_NETWORK,
    "httpx": NO_NETWORK,
    "httpcore": NO_NETWORK,
    "httpx2": NO_NETWORK,
    "httpcore2": NO_NETWORK,
    "requests": NO_NETWORK,
    "urllib3": NO_NETWORK,
    "safetensors": "is the file whole, and is there room on the disk?",
    "ray": "see the logs of Ray, or take --engine local",
    "wandb": "log in there, or leave out --report-to",
    "mlflow": "set it up, or leave out --report-to",
    "comet_ml": "set it up, or leave out --report-to",
    "pyo3_runtime": "a library written in Rust gave up; are its files whole?",
}


class InputError(ValueError):
    """Input or arguments that cannot be used.

    The message is one line for the person who reads it: what was wrong, where (file, line, column),
    and what to do. The commands print it and exit with code 2, before any long work starts.
    """


class UnfinishedError(RuntimeError):
    """Work that was not finished, for a reason that is not in its input.

    The message is one line too: what went wrong, and what is there all the same. The commands print it and exit with
    code 1.
    """


class DivergedError(UnfinishedError):
    """Training that ended with weights that are of no use: nothing of it is gone on with."""


class RowError(InputError):
    """A row that cannot be used.

    Args:
        where: Source and line, and the column where it is one.
        reason: What is wrong, in words that are the same for all rows it is wrong with.
        detail: What is wrong with this one; default is the reason.
    """

    def __init__(self, where: str, reason: str, detail: str | None = None) -> None:
        self.where, self.reason, self.detail = where, reason, detail or reason
        super().__init__(f"{where}: {self.detail}")

    def saying(self, more: str) -> RowError:
        """Return the error with more words at its end."""
        return RowError(self.where, self.reason, f"{self.detail}{more}")


def one_line(error: BaseException | str) -> str:
    """Return what an error of another library says as one line; the name of its class where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return shortened(text, LONGEST_LINE)


def shortened(text: str, most: int) -> str:
    """Return a text of at most ``most`` characters; a longer one ends with three dots."""
    return text if len(text) <= most else text[: most - 3].rstrip() + "..."


@contextlib.contextmanager
def naming_the_extra(what: str) -> Iterator[None]:
    """Say which extra of this package is absent, where an import fails for one.

    Args:
        what: What needs it, for the message: a command, a flag, a kind of file.

    Raises:
        InputError: If a package of an extra is not installed; with the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise InputError(
            f"{what} needs {package}, which is not installed: pip install 'lbr-st[{EXTRAS[package]}]'"
        ) from error


def require(module: str, what: str) -> ModuleType:
    """Import a module of an extra where it is needed, see `naming_the_extra`."""
    with naming_the_extra(what):
        return importlib.import_module(module)


def check_installed(package: str, what: str) -> None:
    """Refuse what needs a package of an extra that is not there, without importing it.

    Raises:
        InputError: With the command that installs it.
    """
    if find_spec(package) is None:
        raise InputError(f"{what} needs {package}, which is not installed: pip install 'lbr-st[{EXTRAS[package]}]'")


def raised_by_us(error: BaseException) -> bool:
    """Tell whether it was a line of this package that raised an error, not a library that it called."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_globals.get("__name__", "").partition(".")[0] == "lbr_st"


def is_of_the_machine(error: BaseException) -> bool:
    """Tell whether it was the machine that had too little of something: never a fault of what was read or opened."""
    return of_memory(error) is not None or _number_in(error) in {*SYSTEM} - {*OF_RIGHTS}


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it was raised for, and so on; each once, as an error may be raised for itself."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def _number_in(error: BaseException) -> int | None:
    """Return the number that the operating system gave an error, or the one that it was raised for."""
    return next((number for each in _causes(error) if (number := _number_of(each)) is not None), None)


def _number_of(error: BaseException) -> int | None:
    """Return the number that the operating system gave an error; libraries have it in their own words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if (found := OF_RUST.search(str(error))) is not None:
        return int(found[1])
    return None


def of_memory(error: BaseException) -> BaseException | None:
    """Return the error of memory that an error is, or was raised for; None where there is none.

    Whoever opens a file may have taken it for a fault of that file.
    """
    for cause in _causes(error):
        names = {each.__name__ for each in type(cause).__mro__}
        is_said = isinstance(cause, RuntimeError | ImportError | OSError) and OF_MEMORY.search(str(cause)) is not None
        if names & {"MemoryError", "OutOfMemoryError"} or is_said or _number_of(cause) == errno.ENOMEM:
            return cause
    return None


def _line_of_memory(error: BaseException) -> str:
    said = one_line(error)
    try:
        import resource
    except ImportError:  # Windows has none
        limit = -1
    else:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit < 0 or "CUDA" in said:
        return f"out of memory ({said}): {LESS_AT_ONCE}"
    allowed = f"a process may have {limit / 2**30:.1f} GiB of addresses here, by ulimit -v"
    return f"out of memory ({said}): {allowed}; let it have more, or {LESS_AT_ONCE}"


def foreseen(error: BaseException) -> str | None:
    """Return the line for an error that is no bug of this package: what happened, and what to do.

    Args:
        error: What was raised.

    Returns:
        One line. None for any other error: its traceback is what helps.
    """
    said = one_line(error)
    if isinstance(error, UnfinishedError):
        return str(error)
    if (cause := of_memory(error)) is not None:
        return _line_of_memory(cause)
    if isinstance(error, InputError | ImportError):
        return str(error) if isinstance(error, InputError) else _of_import(error, said)
    if is_of_the_machine(error) and not isinstance(error, OSError):
        return f"{said}; {SYSTEM[_number_in(error) or 0]}"
    if type(error) is Exception and _is_of_tokenizer(error):  # the tokenizers library has no class of its own
        return f"the tokenizer cannot be used ({said}): is its tokenizer.json whole?"
    if isinstance(error, RuntimeError) and (line := _of_torch(error, said)) is not None:
        return line
    for root in (each.__module__.partition(".")[0] for each in type(error).__mro__):
        if root in OUTSIDE:
            return f"{said}: {OUTSIDE[root]}"
    if isinstance(error, ConnectionError | TimeoutError):
        return f"{said}: {NO_NETWORK}"
    return _of_the_system(error, said) if isinstance(error, OSError) else _of_an_environment(error, said)


def _of_torch(error: RuntimeError, said: str) -> str | None:
    """Return the line for an error that torch has no class for."""
    if any(part in str(error) for part in OF_WRITING):
        return f"a file cannot be written to its end ({said}); {SYSTEM[errno.ENOSPC]}"
    if any(part in str(error) for part in OF_THE_GPU):
        return f"the GPU cannot be used ({said}): look at it with nvidia-smi, or add --use-cpu in training"
    return None


def _of_an_environment(error: BaseException, said: str) -> str | None:
    """Return the line for an error of a package of others at its import, when it reads the environment."""
    importing: list[str] = []
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package == "lbr_st":
            importing.clear()
        elif frame.f_code.co_name == "<module>" and package != "__main__":
            importing.append(package)
    if not importing:
        return None
    return f"{importing[-1]} cannot be imported ({said}): does the environment say what it does not take?"


def _is_of_tokenizer(error: BaseException) -> bool:
    """Tell whether an error was raised while transformers had a tokenizer read or run."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(modules) and modules[-1].startswith(
        ("transformers.tokenization", "transformers.convert_slow", "tokenizers")
    )


def _of_import(error: ImportError, said: str) -> str | None:
    package = (error.name or "").partition(".")[0]
    if package == "lbr_st":
        return None
    if package in EXTRAS:
        return f"{said}: pip install 'lbr-st[{EXTRAS[package]}]'"
    if isinstance(error, ModuleNotFoundError) and package:
        return f"the package {package} is not installed: pip install it"
    if package:
        return f"{said}: packages that do not fit together; pip install --upgrade 'lbr-st[all]' renews them"
    return said  # of a library, which says what it needs


def _is_somewhere() -> bool:
    """Tell whether the folder is there that this process is in."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _of_the_system(error: OSError, said: str) -> str:
    if error.errno == errno.ENOENT and error.filename is None and not _is_somewhere():
        return "the folder that this was started in is gone: change to one that is there"
    if error.strerror:
        said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    remedy = SYSTEM.get(error.errno or 0)
    return f"{said}; {remedy}" if remedy else said


def not_written(what: str, error: OSError) -> UnfinishedError:
    """Return the error of an output that could not be written: of the machine, not of the input.

    Args:
        what: The output, for the message.
        error: What the system says.
    """
    said, remedy = one_line(error.strerror or error), SYSTEM.get(error.errno or 0)
    return UnfinishedError(f"{what} was not written: {said}{f'; {remedy}' if remedy else ''}")


@contextlib.contextmanager
def only_warning(logger: logging.Logger, what: str) -> Iterator[None]:
    """Let something fail that is worth less than what it belongs to, and say so.

    Args:
        logger: Logger of the module that does it.
        what: What is not there then, for the warning.
    """
    try:
        yield
    except Exception as error:  # whatever it is, the work it belongs to goes on
        line = foreseen(error)
        logger.warning("%s could not be written: %s", what, line or one_line(error), exc_info=line is None)


def where_to_report() -> str:
    """Return what to do about an error that is a bug of this package, with the versions that a report needs."""
    from importlib import metadata  # what every command would wait for

    versions, where = [f"Python {sys.version.split()[0]}"], "where you got lbr-st"
    for package in ("lbr-st", "torch", "transformers", "sentence-transformers"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{package} {metadata.version(package)}")
    with contextlib.suppress(metadata.PackageNotFoundError):
        addresses = dict(each.split(", ", 1) for each in metadata.metadata("lbr-st").get_all("Project-URL") or ())
        where = next((f"at {addresses[name]}" for name in ("Issues", "Repository") if name in addresses), where)
    return (
        f"this is a bug of lbr-st, not a fault of your input. Please report it {where}, with the lines above and "
        f"{', '.join(versions)}"
    )
