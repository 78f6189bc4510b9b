"""What the folder of an export says of itself: the model it was made from, and how near its vectors came."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from lbr_st.errors import InputError
from lbr_st.files import file_sha256, read_json, write_json

EXPORT = "lbr_export.json"


@dataclass(frozen=True)
class Made:
    """How an export was made.

    Attributes:
        runtime: What runs it.
        model_sha256: Fingerprint of the model that it was made from.
        cosine: Lowest cosine of one of its vectors to the original's.
        comparisons: Number of vectors that were compared.
        files: Hashes of what the model is opened from, by the paths in the folder.
    """

    runtime: str
    model_sha256: str
    cosine: float
    comparisons: int
    files: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write it beside the export."""
        write_json(folder / EXPORT, asdict(self))

    def exchanged(self, folder: Path) -> Path | None:
        """Return a file of the folder that is not the one that was exported: nobody has compared what it gives."""
        files = {folder / name: digits for name, digits in self.files.items()}
        return next((file for file, sha in files.items() if not file.is_file() or file_sha256(file) != sha), None)


def read_made(folder: str | Path) -> Made | None:
    """Return how the export in a folder was made; None where there is none.

    Raises:
        InputError: If the file that says so is damaged.
    """
    file = Path(folder, EXPORT)
    if not file.is_file():
        return None
    try:
        about = read_json(file)
        return Made(**{field.name: about[field.name] for field in fields(Made)})
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is not what lbr export wrote: {error!r}; export the model again") from error
