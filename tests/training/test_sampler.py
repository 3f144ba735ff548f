"""Rows are shuffled or grouped by length, in an order that a resumed run repeats."""

import pytest
import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback, set_seed
from transformers import Seq2SeqTrainingArguments as Arguments

from conftest import UPSTREAM
from hydratune.training.setup import training_arguments
from hydratune.training.trainer.sampler import LengthGroupedSampler, ShuffledSampler, lengths
from hydratune.training.trainer.trainer import Trainer

COUNTS = torch.randint(1, 100, (1001,), generator=torch.Generator().manual_seed(1)).tolist()


def batches(rows, size=8):
    """Row numbers -> lists of `size` of them."""
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def padding(rows, counts, size=8):
    """The share of the tokens in padded batches that are padding."""
    return 1 - sum(counts) / sum(len(batch) * max(counts[row] for row in batch) for batch in batches(rows, size))


def orders(epochs, *arguments, **options):
    """The orders of the first epochs of a `LengthGroupedSampler`."""
    sampler = LengthGroupedSampler(*arguments, **options)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        yield list(sampler)


def test_length_grouped_sampler_avoids_padding():
    """Under 3% of the tokens are padding where shuffled rows have 44%."""
    assert padding(list(LengthGroupedSampler(COUNTS, 8, seed=1)), COUNTS) < 0.03
    assert padding(list(ShuffledSampler(1001, seed=1)), COUNTS) > 0.4


def test_length_grouped_sampler_groups_few_rows():
    """150 rows of 50 to 99 tokens in batches of 32 have 8% padding; grouped within single batches they had 24%."""
    counts = [50 + count // 2 for count in COUNTS[:150]]
    mean = sum(padding(order, counts, 32) for order in orders(20, counts, 32, seed=1)) / 20
    assert mean < 0.09
    assert padding(list(ShuffledSampler(150, seed=1)), counts, 32) > 0.2


def test_length_grouped_sampler_changes_few_groups_between_epochs():
    """Four steps of a small data set do not consist of the same rows in each epoch."""
    first, second = (
        {frozenset(batch) for batch in batches(order, 32)} for order in orders(2, COUNTS[:128], 32, seed=1)
    )
    assert len(first) == len(second) == 4
    assert not first & second


@pytest.mark.parametrize("rows", [150, 1001])
def test_length_grouped_sampler_has_any_lengths_in_the_last_batch(rows):
    """It has long and short ones over the epochs, not the shortest of all."""
    counts = COUNTS[:rows]
    lasts = [batches(order, 16)[-1] for order in orders(60, counts, 16, seed=1)]
    means = [sum(counts[row] for row in batch) / len(batch) for batch in lasts]
    assert sum(means) / 60 == pytest.approx(sum(counts) / rows, rel=0.2)
    assert max(means) > 80
    assert min(means) < 20


def test_length_grouped_sampler_drops_each_row_as_often():
    """In 2000 epochs each of 22 rows is dropped about as often, whatever its length."""
    counts, dropped = COUNTS[:22], torch.zeros(22)
    for order in orders(2000, counts, 4, seed=1, accumulation=2, drop_last=True):
        dropped[order[-2:]] += 1
    assert dropped.sum() == 4000
    assert dropped.min() > 130  # of 182 expected, with a standard deviation of 13
    assert dropped.max() < 240


def test_length_grouped_sampler_groups_by_steps():
    """The rows of a step of several batches are those of one batch of the same size."""
    parts, whole = (LengthGroupedSampler(COUNTS, *sizes) for sizes in ((8, 1, 4), (32, 1)))
    assert list(parts) == list(whole)


def test_length_grouped_sampler_has_each_row_once_and_the_longest_first():
    """The longest one comes first, so that memory that does not suffice shows in the first step."""
    for rows, size in ((1001, 8), (41, 20)):
        for order in orders(10, COUNTS[:rows], size, seed=1):
            assert sorted(order) == list(range(rows))
            assert COUNTS[order[0]] == max(COUNTS[:rows])


def test_lengths_come_in_no_order():
    """Batches do not go from long to short: the first half of an epoch has half of the tokens, give or take."""
    order = list(LengthGroupedSampler(COUNTS, 8, seed=1))
    assert abs(sum(COUNTS[row] for row in order[:500]) / sum(COUNTS) - 0.5) < 0.1


def length_grouped(seed):
    """A sampler of rows of several lengths."""
    return LengthGroupedSampler(COUNTS, 8, seed)


def shuffled(seed):
    """A sampler of as many rows."""
    return ShuffledSampler(1001, seed)


@pytest.mark.parametrize("make", [length_grouped, shuffled])
def test_cma_es_depend_on_seed_and_epoch_alone(make):
    """Neither earlier epochs nor torch's global generator change an order."""
    one, other = make(1), make(1)
    first = list(one)
    torch.rand(7)
    one.set_epoch(1)
    other.set_epoch(1)
    assert list(one) == list(other) != first


@pytest.mark.parametrize("make", [length_grouped, shuffled])
def test_cma_es_share_no_order_between_seeds(make):
    """Epoch 1 of seed 1 is not epoch 0 of seed 2."""
    seen = set()
    for seed in range(3):
        sampler = make(seed)
        for epoch in range(3):
            sampler.set_epoch(epoch)
            seen.add(tuple(sampler))
    assert len(seen) == 9


def read_rows(folder, seed, strategy, **more):
    """The rows that each of two epochs reads, in their order."""

    class Order(torch.nn.Module):
        """Remembers its inputs."""

        def __init__(self):
            super().__init__()
            self.weight, self.seen = torch.nn.Parameter(torch.zeros(1)), []

        def forward(self, input_ids, labels=None):  # noqa: ARG002
            self.seen += input_ids[:, 0].tolist()
            return {"loss": self.weight.sum()}

    rows = Dataset.from_dict({"input_ids": [[row] * (1 + row % 3) for row in range(16)], "labels": [0] * 16})
    args = Arguments(
        str(folder),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        train_sampling_strategy=strategy,
        seed=seed,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **more,
    )

    def collate(batch):
        ids = [torch.tensor(row["input_ids"]) for row in batch]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        return {"input_ids": padded, "labels": torch.zeros(len(batch), dtype=torch.int64)}

    trainer = Trainer(Order(), args, collate, rows)
    trainer.train()
    seen = trainer.model.seen
    return tuple(seen[:16]), tuple(seen[16:])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["random", "group_by_length", "batch_rebalance"])
def test_trainer_reads_another_order_in_each_epoch_of_each_seed(tmp_path, strategy):
    """Three seeds and two epochs read six orders; upstream's strategies add the epoch to the seed, or ignore the seed."""
    read = [epoch for seed in (1, 2, 3) for epoch in read_rows(tmp_path, seed, strategy)]
    assert all(sorted(epoch) == list(range(16)) for epoch in read)
    assert len({*read}) == 6


def test_trainer_reads_the_rows_of_the_data_seed(tmp_path):
    """Where there is one, the run's seed does not change the order."""
    one, other = (read_rows(tmp_path, seed, "random", data_seed=5) for seed in (1, 2))
    assert one == other


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


@pytest.mark.slow
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
        (["dataset=wordnet_supersense", *UPSTREAM], "random"),
        (["dataset=digits"], "random"),
    ],
)
def test_where_rows_are_grouped(compose, own_directory, typed, strategy):
    """Texts by default; not images, nor for a Trainer that would shuffle evaluation as well."""
    from hydratune.config.instantiate import build

    cfg = compose(*typed)
    args = training_arguments(cfg, build(cfg.task), build(cfg.hardware), own_directory)
    assert args.train_sampling_strategy == strategy
