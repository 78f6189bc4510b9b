"""The three domains of the evidence: what each stage may read, and what is held out.

Medical and chemistry are read from a folder with ``medical`` and ``chemistry``, each with train.jsonl, dev.jsonl and
test.jsonl; code is that of the packages installed. The test and dev sets are taken as they are.

- What stage 2 may read is apart from what is held out by more than the pair: no disease (``focus``) of a test or dev
  question in medicine, no compound in chemistry, no package in code.
- Stage 1 has two regimes. *Strict*: training records only. *Corpus-taught*: the passages that will be searched too,
  those of dev and test among them, each with what a corpus knows it by (its title, an alias of the compound, the
  function's name) and never with a question that is asked of it.
- Stage 1 reads either pairs (SFT-style) or passages (PT-style). A passage is a title and its document as one text. A
  pair asks for the document by the title if it is of dev or test, and by the question of the training record if not:
  in medicine and code SFT-style arms have the labels of all training records, PT-style ones have none. In chemistry
  both know a compound by the same alias.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lbr_st.data.installed_packages import documented_functions, installed_files, installed_pairs
from lbr_st.data.same_text import LOOSE, same_text
from lbr_st.errors import InputError
from lbr_st.files import read_json, sha256, write_json, write_jsonl
from lbr_st.records import FIELDS, Record

DOMAINS = ("medical", "chemistry", "code")
REGIMES = ("corpus-taught", "strict")
SPLITS = ("train", "dev", "test")
# Alike in their letters and digits by this much, an alias is a spelling of the name that the test asks for.
NEAR_SPELLING = 0.85
# What names a position in a structure: "2-", "n,n'-", "alpha-".
LOCANT = re.compile(r"(^|[^a-z0-9])(\d+[a-z]?|n|o|s|alpha|beta|gamma)'*[,-]")
CODE_SIZES = {"dev": 500, "test": 1500}
MOST_CODE_PAIRS = 20_000
DEV_DISTRACTORS = 2000
TAUGHT = "taught.json"  # the file that says that the others are whole, and what they are made of


class Domain(NamedTuple):
    """Files of a domain, JSON Lines all.

    Attributes:
        name: One of `DOMAINS`.
        folder: Where they are.
    """

    name: str
    folder: Path

    def stage1(self, regime: str, of: str) -> Path:
        """Return what stage 1 reads: ``pairs`` or ``passages``."""
        return self.folder / f"{regime}-{of}.jsonl"

    @property
    def pairs(self) -> Path:
        """What stage 2 reads, in an order drawn at random: a smaller set is the first rows of it."""
        return self.folder / "pairs.jsonl"

    @property
    def dev(self) -> Path:
        """Queries and their documents to choose settings on."""
        return self.folder / "dev.jsonl"

    @property
    def dev_corpus(self) -> Path:
        """Documents that join those of dev when settings are chosen."""
        return self.folder / "dev-corpus.jsonl"

    @property
    def test(self) -> Path:
        """Queries and their documents to report."""
        return self.folder / "test.jsonl"

    @property
    def full(self) -> Path:
        """Documents that join those of test in the full corpus: those of all training records."""
        return self.folder / "full.jsonl"


def prepare(name: str, data: Path | None, folder: Path, pairs: int, records: int) -> Domain:
    """Write the files of a domain, once.

    Args:
        name: One of `DOMAINS`.
        data: Folder with ``medical`` and ``chemistry``.
        folder: Where to write.
        pairs: For stage 2, at the most.
        records: Training records in all, those pairs among them, at the most.
    """
    domain = Domain(name, folder)
    files = [] if name == "code" or data is None else [data / name / f"{split}.jsonl" for split in SPLITS]
    of = {"pairs": pairs, "records": records, "data_sha256": sha256(files) if files else None}
    if is_written(folder, of):
        return domain
    folder.mkdir(parents=True, exist_ok=True)
    if name == "code":
        splits = code_records()
    else:
        assert data is not None
        read = medical_record if name == "medical" else chemistry_record
        splits = {split: list(map(read, _rows(data / name / f"{split}.jsonl"))) for split in SPLITS}
    held_out = [record for split in ("dev", "test") for record in splits[split]]
    seen = {same_text(record[field], LOOSE) for record in held_out for field in ("query", "document")}
    train = [r for r in splits["train"] if not seen & {same_text(r[field], LOOSE) for field in FIELDS}]
    topics = {record["topic"] for record in held_out}
    random.Random(0).shuffle(train)
    of_stage2 = [record for record in train if record["topic"] not in topics][:pairs]
    ids = {record["id"] for record in of_stage2}
    train = [*of_stage2, *(record for record in train if record["id"] not in ids)][:records]

    for regime, taught in zip(REGIMES, ([*train, *map(titled, held_out)], train), strict=True):
        write_jsonl(domain.stage1(regime, "pairs"), map(_pair_of_stage1, taught))
        write_jsonl(domain.stage1(regime, "passages"), map(_passage, taught))
    write_jsonl(domain.pairs, map(_pair, of_stage2))
    for file, split in ((domain.dev, "dev"), (domain.test, "test")):
        write_jsonl(file, ({**_pair(record), "kind": record["kind"]} for record in splits[split]))
    documents = [{"id": record["id"], "document": record["document"]} for record in train]
    write_jsonl(domain.full, documents)
    write_jsonl(domain.dev_corpus, random.Random(0).sample(documents, min(len(documents), DEV_DISTRACTORS)))
    write_json(folder / TAUGHT, of)
    return domain


def is_written(folder: Path, of: Mapping[str, Any]) -> bool:
    """Tell whether the files of a domain are there.

    Args:
        folder: Where they are.
        of: What they are made of.

    Raises:
        InputError: If they are made of something else: what is trained on them is, too.
    """
    done = folder / TAUGHT
    if not done.is_file():
        return False
    if (found := read_json(done)) != of:
        raise InputError(f"{folder} was made of {found}, not of {of}: name another --work-dir, or delete it")
    return True


def medical_record(row: dict[str, Any]) -> Record:
    """Return a question and its answer; the title of the answer is the disease it is about, else its first words."""
    kind, title = row["question_type"], row["focus"].strip() or " ".join(row["answer"].split()[:5])
    texts = {"query": row["question"], "document": row["answer"], "title": title, "taught_by": row["question"]}
    return {"id": row["id"], **texts, "topic": same_text(row["focus"], LOOSE), "kind": kind}


def chemistry_record(row: dict[str, Any]) -> Record:
    """Return a name and the structure; the title is another of its names, and no near spelling of this one.

    A compound that has none is known by its formula.
    """
    name, *aliases = row["names"]
    aliases = [alias for alias in aliases if likeness(alias, name) < NEAR_SPELLING]
    title = random.Random(row["id"]).choice(aliases) if aliases else row["formula"]
    document = f"{row['iupac']}; {row['formula']}; {row['smiles']}"
    kind = "systematic" if LOCANT.search(name.lower()) or likeness(name, row["iupac"]) >= 0.5 else "trivial"
    texts = {"query": name, "document": document, "title": title}
    return {"id": row["id"], **texts, "topic": row["id"], "kind": kind, "taught_by": title}


def likeness(one: str, other: str) -> float:
    """Return how much two names have in common, letters and digits alone, from 0 to 1."""
    a, b = (re.sub(r"[^a-z0-9]", "", name.lower()) for name in (one, other))
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()


def code_records() -> dict[str, list[Record]]:
    """Return (docstring, function) pairs of two of three groups of packages; the title is the function's name."""
    of_group: dict[int, list[Record]] = {0: [], 1: [], 2: []}
    for pair in installed_pairs():
        name = pair["document"].split("(")[0].split()[-1]
        texts = {"query": pair["query"], "document": pair["document"], "title": name}
        record = {"id": pair["id"], **texts, "topic": pair["package"], "kind": "function", "taught_by": pair["query"]}
        of_group[group_of(pair["package"])].append(record)
    for records in of_group.values():
        random.Random(0).shuffle(records)
    dev, test = CODE_SIZES["dev"], CODE_SIZES["test"]
    held_out = of_group[2]
    return {"train": of_group[1][:MOST_CODE_PAIRS], "dev": held_out[:dev], "test": held_out[dev : dev + test]}


def group_of(package: str) -> int:
    """Return the group of a package: 0 for the text of the backbone, 1 for the domain, 2 for what is held out."""
    return hashlib.sha256(package.encode()).digest()[0] % 3


def code_backbone_texts(characters: int) -> Iterator[str]:
    """Return whole files of the packages of group 0, docstrings and all, until there are so many characters."""
    files = [file for package, _, file in installed_files() if group_of(package) == 0]
    random.Random(0).shuffle(files)
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if documented_functions(text):
            yield text
            characters -= len(text)
            if characters <= 0:
                return


def titled(record: Record) -> Record:
    """Return a held-out record as a corpus knows it: asked for by its title."""
    return {**record, "taught_by": record["title"]}


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _pair(record: Record) -> Record:
    return {key: record[key] for key in ("id", "query", "document")}


def _pair_of_stage1(record: Record) -> Record:
    return {"id": record["id"], "query": record["taught_by"], "document": record["document"]}


def _passage(record: Record) -> Record:
    return {"id": record["id"], "document": f"{record['title']}\n{record['document']}"}


def kinds(domain: Domain) -> Sequence[str]:
    """Return the kind of each test query, in order."""
    return [row["kind"] for row in _rows(domain.test)]
