"""The trainer of stage 2."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from datasets import Dataset
from peft import PeftModel
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader

from lbr_st.alignment.batches import DistinctBatchSampler
from lbr_st.alignment.teacher import Lessons
from lbr_st.data.same_text import AUTO
from lbr_st.model.bottleneck import BottleneckTransformer
from lbr_st.training.callbacks import SaveAtEvaluation, SetEpoch, WarnOfRisingLoss
from lbr_st.training.lora import load_adapter, save_adapter


class AlignTrainer(SentenceTransformerTrainer):
    """Sentence-transformers' trainer, with the batches of `DistinctBatchSampler`.

    With LoRA a checkpoint is the adapter alone.

    Args:
        model: Model that is trained in place.
        args: Arguments of the trainer.
        train_dataset: Rows of `lbr_st.alignment.batches.training_rows`.
        known: Documents that answer each query, beside those of the rows.
        same: What is the same text, one of `lbr_st.data.same_text.LEVELS`.
        adapter: What is trained of the model; default is all of it.
        lessons: What a teacher says of the rows, for the loss; asked for before training.
        **kwargs: Arguments of sentence-transformers' trainer.

    Raises:
        InputError: If not one batch can be made.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        args: SentenceTransformerTrainingArguments,
        train_dataset: Dataset,
        *,
        known: Mapping[str, Iterable[str]] | None = None,
        same: str = AUTO,
        adapter: PeftModel | None = None,
        lessons: Lessons | None = None,
        **kwargs: Any,
    ) -> None:
        self.sentence_transformer = model
        self.adapter = adapter
        self.lessons = lessons
        self._rising = WarnOfRisingLoss()
        self.batches = DistinctBatchSampler(
            train_dataset,
            args.train_batch_size,
            # Sentence-transformers sets it in several processes, as uneven parts would hang; these are even.
            args.dataloader_drop_last and args.world_size == 1,
            known=known,
            same=same,
            seed=args.seed if args.data_seed is None else args.data_seed,
            num_processes=args.world_size,
            process_index=args.process_index,
        )
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)
        self.add_callback(SetEpoch(self.batches))
        self.add_callback(SaveAtEvaluation())
        self.add_callback(self._rising)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Watch the loss of a step."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._rising.add(loss)
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Score the dev data, without a draw of the run's random numbers: how often must not change its weights."""
        with torch.random.fork_rng(devices=[]):
            return super().evaluate(*args, **kwargs)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Collect nothing for a model card: it would be of the checkpoints, and none is written."""

    def get_batch_sampler(self, *args: Any, **kwargs: Any) -> BatchSampler:
        """Return the batches of this process."""
        return self.batches

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return a loader that is not divided among the processes once more."""
        loader = self._build_dataloader(self.train_dataset, self.args.train_batch_size, dataset_kind="train")
        return prepare_data_loader(
            loader,
            device=self.accelerator.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            non_blocking=self.accelerator.non_blocking,
        )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save:
            return
        folder = output_dir or str(self.args.output_dir)
        if self.adapter is not None:
            save_adapter(self.adapter, folder)
        else:
            self.model.save_pretrained(folder, create_model_card=False)

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:  # type: ignore[override]
        if self.adapter is not None:
            load_adapter(self.adapter, checkpoint_path)
        elif isinstance(self.model[0], BottleneckTransformer):
            # On the CPU: beside a model and its optimizer a GPU may have no room for another.
            saved = BottleneckTransformer.load(checkpoint_path)
            self.model[0].model.load_state_dict(saved.model.state_dict())
        else:
            super()._load_from_checkpoint(checkpoint_path)

    def _load_best_model(self) -> None:
        """Load it, or fail: sentence-transformers would go on with the last weights."""
        assert self.state.best_model_checkpoint is not None
        self._load_from_checkpoint(self.state.best_model_checkpoint)
