"""Toy rows of the domains of the evidence, and a reader of JSON Lines."""

import json

SPLITS = {"train": 12, "dev": 4, "test": 4}


def medical_row(split, n):
    # Of the training records the last one is about what a test question is about.
    focus = "Test 0 disease" if (split, n) == ("train", SPLITS["train"] - 1) else f"{split.title()} {n} disease"
    text = {"question": f"What is {focus}, {split} {n} ?", "answer": f"The {focus} is {split} {n}."}
    return {"id": f"{split}-{n}", **text, "focus": focus, "question_type": "information", "source": "s"}


def chemistry_row(split, n):
    names = [f"{n}-{split}amine", f"{n} {split}amine", f"{split} oil {n}"]
    return {"id": f"{split}-{n}", "iupac": f"{n}-azanyl{split}ane", "formula": f"C{n}", "smiles": "CN", "names": names}


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
