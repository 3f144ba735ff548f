"""Rows of one length come together, and a run that goes on finds their order again."""

import pytest
import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback, set_seed
from transformers import Seq2SeqTrainingArguments as Arguments

from hydratune.run import training_arguments
from hydratune.training.sampler import LengthGroupedSampler, lengths
from hydratune.training.trainer import Trainer

COUNTS = torch.randint(1, 100, (1001,), generator=torch.Generator().manual_seed(1)).tolist()


def batches(rows, size=8):
    """Row numbers -> lists of `size` of them."""
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def test_batches_of_one_length():
    """Padding adds less than a tenth where rows in an order of chance would nearly double."""

    def padded(rows):
        return sum(len(batch) * max(COUNTS[row] for row in batch) for batch in batches(rows)) / sum(COUNTS)

    assert padded(list(LengthGroupedSampler(COUNTS, 8, seed=1))) < 1.1
    assert padded(torch.randperm(1001).tolist()) > 1.6


def test_each_row_once():
    """An epoch has every row once; the longest comes first, so that memory that does not suffice is told at once."""
    order = list(LengthGroupedSampler(COUNTS, 8, seed=1))
    assert sorted(order) == list(range(1001))
    assert COUNTS[order[0]] == max(COUNTS)


def test_lengths_come_in_no_order():
    """Batches do not go from long to short: the first half of an epoch has half of the tokens, give or take."""
    order = list(LengthGroupedSampler(COUNTS, 8, seed=1))
    assert abs(sum(COUNTS[row] for row in order[:500]) / sum(COUNTS) - 0.5) < 0.1


def test_an_epoch_has_its_order():
    """It depends on the seed and the number of the epoch, not on the epochs before or on torch's own generator."""
    one, other = LengthGroupedSampler(COUNTS, 8, seed=1), LengthGroupedSampler(COUNTS, 8, seed=1)
    first = list(one)
    torch.rand(7)
    one.set_epoch(1)
    other.set_epoch(1)
    assert list(one) == list(other) != first
    assert list(LengthGroupedSampler(COUNTS, 8, seed=2)) != first


@pytest.mark.parametrize("count", [1, 3, 8, 9])
def test_few_rows(count):
    """Fewer rows than a batch, or just one batch, lose none."""
    assert sorted(LengthGroupedSampler(COUNTS[:count], 8, seed=1)) == list(range(count))


def test_lengths():
    """Tokens of a text; of the longest of several; of selected rows; nothing where there are no lists."""
    rows = Dataset.from_dict(
        {"input_ids": [[1, 2], [3], [4, 5, 6]], "choices": [[[1], [1, 2]], [[1]], []], "n": [1, 2, 3]}
    )
    assert lengths(rows, "input_ids") == [2, 1, 3]
    assert lengths(rows.select([2, 0]), "input_ids") == [3, 2]
    assert lengths(rows, "choices") == [2, 1, 0]
    assert lengths(rows, "n") is lengths(rows, "nothing") is lengths([1, 2], "input_ids") is None


class Stop(TrainerCallback):
    """Saves and ends at a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):  # noqa: ARG002
        control.should_save = control.should_training_stop = state.global_step == self.step


def weights(folder, stop=None, resume=None):
    """The weights after two epochs of twelve steps of two batches; `stop` ends at that step, `resume` goes on."""
    set_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    network = BertForSequenceClassification(BertConfig(vocab_size=50, **sizes))
    drawn = torch.Generator().manual_seed(3)
    texts = [torch.randint(5, 50, (count % 30 + 1,), generator=drawn).tolist() for count in COUNTS[:96]]
    rows = Dataset.from_dict({"input_ids": texts, "labels": [len(text) % 2 for text in texts]})

    def collate(batch):
        ids = [torch.tensor(row["input_ids"]) for row in batch]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        return {
            "input_ids": padded,
            "attention_mask": padded > 0,
            "labels": torch.tensor([row["labels"] for row in batch]),
        }

    args = Arguments(
        str(folder),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        train_sampling_strategy="group_by_length",
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(network, args, collate, rows, callbacks=[Stop(stop)])
    trainer.train(resume_from_checkpoint=resume)
    return torch.cat([weight.detach().flatten() for weight in network.parameters()])


@pytest.mark.usefixtures("own_directory")
@pytest.mark.parametrize("step", [5, 12, 17])
def test_a_resumed_run_is_exact(step):
    """Stopped within an epoch or between two and continued, a run ends with the weights of one that was not."""
    whole = weights("a")
    weights("b", stop=step)
    assert torch.equal(weights("b", resume=f"b/checkpoint-{step}"), whole)


@pytest.mark.parametrize(
    ("typed", "strategy"),
    [
        (["dataset=wordnet_supersense"], "group_by_length"),
        (["dataset=wordnet_supersense", "trainer.args.train_sampling_strategy=random"], "random"),
        (["dataset=wordnet_supersense", "trainer._target_=transformers.Seq2SeqTrainer"], "random"),
        (["dataset=digits"], "random"),
    ],
)
def test_where_rows_are_grouped(compose, own_directory, typed, strategy):
    """Texts by default; not images, nor for a Trainer that would shuffle evaluation as well."""
    from hydratune.build import build

    cfg = compose(*typed)
    args = training_arguments(cfg, build(cfg.task), build(cfg.hardware), own_directory)
    assert args.train_sampling_strategy == strategy
