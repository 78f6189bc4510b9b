"""Sources of every shape, small and made on the spot; each as arguments of `PrepareConfig`."""

import json
import random

TOPICS = ["anaemia", "asthma", "gout", "malaria", "measles", "mumps", "rabies", "scurvy", "tetanus", "typhus"]
ASPECTS = ["caused", "treated", "prevented", "diagnosed", "described", "inherited"]


def read(folder, name):
    """Return the records of a file of a prepared set."""
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def about(folder):
    """Return what a prepared set says of itself."""
    return json.loads((folder / "lbr_set.json").read_text())


def pair(topic, aspect):
    """Words that no other pair has in this order."""
    words = random.Random(f"{topic} {aspect}").sample([f"{aspect}{n}" for n in range(40)], 12)
    return {
        "question": f"How is {topic} {aspect}?",
        "answer": f"{topic.capitalize()} is {aspect} by {' '.join(words)}.",
    }


PAIRS = [{"id": f"{t}-{a}", **pair(t, a), "focus": t} for t in TOPICS for a in ASPECTS]


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def qa(folder):
    """Question-answer pairs, one file."""
    return {"sources": [write_jsonl(folder / "qa.jsonl", PAIRS)]}


def sides(folder):
    """Question-answer pairs that come in train, dev and test."""
    for name, rows in (("train", PAIRS[:40]), ("dev", PAIRS[40:48]), ("test", PAIRS[48:])):
        write_jsonl(folder / "sides" / f"{name}.jsonl", rows)
    return {"sources": [str(folder / "sides")]}


def chemistry(folder):
    """Names and structures, nested, for templates."""
    rows = [
        {"id": f"cid{n}", "names": [f"{t}ol", f"{a}-{t}"], "iupac": f"{n}-{a}-{t}", "formula": f"C{n}H{n + 2}",
         "smiles": "C" * n + "O"}
        for n, (t, a) in enumerate(((t, a) for t in TOPICS for a in ASPECTS), start=1)
    ]  # fmt: skip
    rows = [row | {"names": [f"{row['names'][0]} {row['id']}", *row["names"][1:]]} for row in rows]
    source = write_jsonl(folder / "compounds.jsonl", rows)
    return {"sources": [source], "query": "{names[0]}", "document": "{iupac}; {formula}; {smiles}"}


def beir(folder):
    """A corpus, queries and graded judgements."""
    root = folder / "beir"
    write_jsonl(root / "corpus.jsonl", [{"_id": p["id"], "title": p["focus"], "text": p["answer"]} for p in PAIRS])
    write_jsonl(root / "queries.jsonl", [{"_id": f"q-{p['id']}", "text": p["question"]} for p in PAIRS[:50]])
    (root / "qrels").mkdir()
    for name, rows in (("train", PAIRS[:30]), ("dev", PAIRS[30:40]), ("test", PAIRS[40:50])):
        lines = [f"q-{p['id']}\t{p['id']}\t2\n" for p in rows]
        lines += [f"q-{p['id']}\t{extra['id']}\t{n % 2}\n" for n, (p, extra) in enumerate(zip(rows, PAIRS[50:]))]  # noqa: B905
        (root / "qrels" / f"{name}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return {"sources": [str(root)]}


def choice(folder):
    """Multiple choice, with letters."""
    rng = random.Random(0)
    rows = []
    for p in PAIRS:
        options = rng.sample(TOPICS, 4)
        rows.append({"question": f"Which is {p['answer']}", "options": dict(zip("ABCD", options, strict=True)),
                     "answer_idx": rng.choice("ABCD")})  # fmt: skip
    return {"sources": [write_jsonl(folder / "choice.jsonl", rows)]}


def markdown(folder):
    """A folder of Markdown with headings."""
    root = folder / "docs"
    root.mkdir()
    for topic in TOPICS:
        sections = [f"## {a}\n\n{pair(topic, a)['answer']}\n" for a in ASPECTS]
        (root / f"{topic}.md").write_text(f"# {topic}\n\n" + "\n".join(sections))
    return {"sources": [str(root)]}


SHAPES = {each.__name__: each for each in (qa, sides, chemistry, beir, choice, markdown)}


def variants(seed, count=150, words=60):
    """Texts of which many are others with a few words changed."""
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        if texts and rng.random() < 0.6:
            changed = rng.choice(texts).split()
            for _ in range(rng.randint(0, 3)):
                changed[rng.randrange(len(changed))] = f"new{rng.randrange(1000)}"
            texts.append(" ".join(changed))
        else:
            texts.append(" ".join(f"w{rng.randrange(500)}" for _ in range(words)))
    return texts
