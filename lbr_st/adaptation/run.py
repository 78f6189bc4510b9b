"""From a folder to a better retriever: queries for its passages, both stages, and a verdict.

Each step leaves its result in a folder of its own and is not done again when the adaptation is started again. What is
saved in the end is the best that was found on dev; the verdict is about other passages, which no step has chosen by.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lbr_st.adaptation import data_steps, training_steps
from lbr_st.adaptation.checking import check
from lbr_st.adaptation.config import AdaptConfig
from lbr_st.adaptation.judging import finds_more_with_bm25, judge, search_command, verdict_of
from lbr_st.adaptation.layout import Layout
from lbr_st.adaptation.report import REPORT
from lbr_st.adaptation.steps import Step, Steps
from lbr_st.files import remove_unfinished, replacing_folder
from lbr_st.model import card
from lbr_st.model.contract import LBR_CONFIG
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.model.saving import save_any
from lbr_st.verdict import Verdict

# What does a step; the last one is `lbr_st.adaptation.judging.judge`, which is told of all others.
RUN: Mapping[str, Callable[[Layout, Path], Mapping[str, Any]]] = {
    "start": data_steps.open_start,
    "passages": data_steps.read_passages,
    "queries": data_steps.get_queries,
    "filter": data_steps.filter_queries,
    "set": data_steps.make_set,
    "learn": training_steps.learn_domain,
    "write": data_steps.write_after_learning,
    "negatives": training_steps.find_negatives,
    "align": training_steps.align_with_queries,
    "merge": training_steps.merge_with_start,
}


@dataclass(frozen=True)
class Adapted:
    """What an adaptation came to.

    Attributes:
        config: Settings that it was made with.
        verdict: What the model finds, against the start, on the test.
        report: The page about it.
        saved: ``end``, or ``start`` where the end is worse.
        search: Command that searches with it, together with BM25 where both find more than either.
        steps: The steps, with what came of them.
    """

    config: AdaptConfig
    verdict: Verdict
    report: Path
    saved: str
    search: str
    steps: list[Step]


def adapt(config: AdaptConfig) -> Adapted:
    """Adapt a model to a corpus, or go on with an adaptation that was interrupted.

    The model is in ``config.output_dir``, and ``report.html`` too; the steps stay in ``config.work``.

    Args:
        config: Corpus, model and settings.

    Raises:
        InputError: If a source, a model or a setting cannot be used, or nothing is left of the queries.
        UnfinishedError: If the generator does not answer; what it answered before is kept.
    """
    check(config)
    layout = Layout(config)
    planned = layout.planned()
    steps = Steps(config.work, len(planned))
    for step in planned:
        run = partial(RUN[step.name], layout) if step.name in RUN else partial(judge, layout, steps.done)
        steps(step.name, step.what, step.settings, run)
    last = steps.done[-1]
    target = Path(config.output_dir)
    remove_unfinished(target.parent, target.name)
    with steps.saying_how_to_go_on("saving the model"), replacing_folder(target) as folder:
        if last.said["saved"] == "end":
            _save(layout.end, folder)
            if (folder / LBR_CONFIG).is_file():  # the card of the step tells how to open the model of the step
                card.write(folder, target.resolve().name)
        else:
            _save(layout.start, folder)
        shutil.copyfile(last.folder / REPORT, folder / REPORT)
    found, saved = verdict_of(last.said), last.said["saved"]
    weight = last.said["weight_beside_bm25"] if saved == "end" and finds_more_with_bm25(found) else None
    return Adapted(config, found, target / REPORT, saved, search_command(config, weight), steps.done)


def _save(model: str, folder: Path) -> None:
    """Write the model that was chosen, which is on this machine, or a start on the Hub."""
    if Path(model).is_dir():
        shutil.copytree(model, folder, dirs_exist_ok=True)
    else:
        save_any(open_sentence_transformer(model), folder)
