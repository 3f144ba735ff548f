"""A step over parts of a batch is the step over the whole batch, whatever the network does with its loss."""

import pytest
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    default_data_collator,
    set_seed,
)

from hydratune.training.trainer.accumulation import GradientAccumulationMixin

ROWS = 10
# Plain descent, unclipped: Adam and clipping forgive a gradient of the wrong size.
PLAIN = {"optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 0, "num_train_epochs": 1, "use_cpu": True}


def classifier():
    """BERT under a head that takes any keyword and divides by its own rows."""
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForSequenceClassification(BertConfig(vocab_size=9, num_labels=2, **small, **still))


def writer():
    """GPT-2, which shifts its labels."""
    still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=9, n_positions=8, n_embd=8, n_layer=1, n_head=1, **still))


def data(make):
    """Rows of 6 tokens; a writer's have from 0 to 5 labels."""
    ids = torch.randint(9, (ROWS, 6), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    for row in range(ROWS):
        labels[row, (3 * row) % 7 :] = -100
    return Dataset.from_dict(
        {"input_ids": ids.tolist(), "labels": (ids[:, 0] % 2 if make is classifier else labels).tolist()}
    )


def trained(make, folder, size, parts, kind=GradientAccumulationMixin, **more):
    """The weights after an epoch, and the loss that was told."""
    set_seed(1)
    args = Seq2SeqTrainingArguments(
        folder, per_device_train_batch_size=size, gradient_accumulation_steps=parts, **PLAIN, **more
    )
    trainer = kind(model=make(), args=args, train_dataset=data(make), data_collator=default_data_collator)
    loss = trainer.train().training_loss
    return torch.cat([one.detach().flatten() for one in trainer.model.parameters()]), loss


@pytest.mark.parametrize("more", [{}, {"label_smoothing_factor": 0.1}], ids=["plain", "smoothed"])
@pytest.mark.parametrize("make", [classifier, writer])
def test_parts_are_the_whole(tmp_path, make, more):
    """Ten rows in steps of 6 and 4, also as parts of 2, and of 1 of which some have no label: the same weights, and loss."""
    whole, loss = trained(make, tmp_path, 6, 1, **more)
    for size in (2, 1):
        weights, same = trained(make, tmp_path, size, 6 // size, **more)
        assert torch.allclose(weights, whole, atol=1e-6, rtol=0)
        assert same == pytest.approx(loss, abs=1e-5)


def test_upstream_adds_up_what_it_should_average(tmp_path):
    """What `GradientAccumulationMixin` is for; once this fails it can go."""
    whole, loss = trained(classifier, tmp_path, 6, 1, Seq2SeqTrainer)
    weights, told = trained(classifier, tmp_path, 2, 3, Seq2SeqTrainer)
    assert not torch.allclose(weights, whole, atol=1e-3, rtol=0)
    assert told > 2 * loss


def test_the_loss_is_the_mean_over_what_is_predicted(tmp_path):
    """Of GPT-2 as well: the first token of a row is predicted from nothing."""
    args = Seq2SeqTrainingArguments(tmp_path, per_device_eval_batch_size=ROWS, use_cpu=True)
    trainer = GradientAccumulationMixin(model=writer(), args=args, data_collator=default_data_collator)
    rows = data(writer)
    batch = {name: torch.tensor(rows[name]) for name in ("input_ids", "labels")}
    wanted = trainer.model(**batch).loss.item()
    assert trainer.evaluate(rows)["eval_loss"] == pytest.approx(wanted, rel=1e-5)
