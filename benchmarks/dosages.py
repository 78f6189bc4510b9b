"""Questions whose answer must be calculated, with the calculation: dosages, dilutions and units, by rule and seed."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

KINDS = ("dosage", "dilution", "units")
SUBSTANCES = ("amoxicillin", "cefalexin", "heparin", "lidocaine", "morphine", "phenytoin", "vancomycin", "zidovudine")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
MOST = 500  # no answer is a larger number
LEAST_PROBLEMS = 6  # that have one answer in common, of each kind: the answer alone identifies no question


class Problem(NamedTuple):
    """A question, its answer, and the reasons for it.

    Attributes:
        kind: One of `KINDS`.
        query: The question.
        reasoning: The calculation, without its last result: that is the answer.
        answer: A number and its unit. The number is in neither the question nor the reasoning.
    """

    kind: str
    query: str
    reasoning: str
    answer: str


def problems(number: int, seed: int) -> list[Problem]:
    """Return problems, as many of each kind, in an order drawn by a seed.

    No two of a kind have the same numbers, in whatever order: what is learned of one does not answer another.

    Args:
        number: Number of them; fewer come back where the rules do not give as many.
        seed: Seed of the draw.
    """
    draw = random.Random(seed)
    found: list[Problem] = []
    for make in (_dosages, _dilutions, _units):
        of_kind = [each for each in make(draw) if not numbers_in(each.answer) & numbers_in(each.query + each.reasoning)]
        draw.shuffle(of_kind)
        # 15 kg at 8 mg/kg is the calculation of 8 kg at 15 mg/kg: whichever comes last is taken.
        of_kind = [*{tuple(sorted(NUMBER.findall(each.query))): each for each in of_kind}.values()]
        common = Counter(each.answer for each in of_kind)
        of_kind = [each for each in of_kind if common[each.answer] >= LEAST_PROBLEMS]
        found += draw.sample(of_kind, min(number // len(KINDS), len(of_kind)))
    draw.shuffle(found)
    return found


def numbers_in(text: str) -> set[float]:
    """Return the numbers of a text."""
    return {float(each) for each in NUMBER.findall(text)}


def _dosages(draw: random.Random) -> Iterator[Problem]:
    for kg, dose, strength in itertools.product(range(6, 140), range(2, 26), (5, 10, 20, 25, 40, 50)):
        total = kg * dose
        if total % strength or total // strength > MOST:
            continue
        name = draw.choice(SUBSTANCES)
        yield Problem(
            "dosage",
            draw.choice(
                (
                    f"A patient of {kg} kg gets {dose} mg of {name} per kg. One mL has {strength} mg. How many mL?",
                    f"How many mL of {name}, {strength} mg/mL, are {dose} mg/kg for a weight of {kg} kg?",
                )
            ),
            f"{kg} kg x {dose} mg/kg = {total} mg; {total} mg / {strength} mg/mL",
            f"{total // strength} mL",
        )


def _dilutions(draw: random.Random) -> Iterator[Problem]:
    for volume, wanted, stock in itertools.product(range(20, 1001, 20), range(1, 21), (10, 20, 25, 30, 40, 50, 60, 80)):
        total = volume * wanted
        if wanted >= stock or total % stock or total // stock > MOST:
            continue
        name = draw.choice(SUBSTANCES)
        yield Problem(
            "dilution",
            draw.choice(
                (
                    f"How much of a stock of {name}, {stock} mg/mL, makes {volume} mL of {wanted} mg/mL?",
                    f"{volume} mL with {wanted} mg of {name} per mL are made of a stock of {stock} mg/mL. How much?",
                )
            ),
            f"{volume} mL x {wanted} mg/mL = {total} mg; {total} mg / {stock} mg/mL",
            f"{total // stock} mL of stock",
        )


def _units(draw: random.Random) -> Iterator[Problem]:
    for tenths, volume, rate in itertools.product(range(2, 51), (20, 25, 50, 100, 200, 250, 500), range(2, 61, 2)):
        mg = 100 * tenths
        if mg % volume or mg // volume * rate > MOST:
            continue
        name, grams, strength = draw.choice(SUBSTANCES), tenths / 10, mg // volume
        yield Problem(
            "units",
            draw.choice(
                (
                    f"{grams:g} g of {name} in {volume} mL run at {rate} mL per hour. How many mg per hour?",
                    f"An infusion has {grams:g} g of {name} in {volume} mL. At {rate} mL/h, how many mg/h?",
                )
            ),
            f"{grams:g} g = {mg} mg; {mg} mg / {volume} mL = {strength} mg/mL; {strength} mg/mL x {rate} mL/h",
            f"{strength * rate} mg/h",
        )
