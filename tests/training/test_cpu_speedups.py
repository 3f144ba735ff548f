"""Cheaper steps learn what plain Trainer's steps learn."""

import math

import pytest
import torch
from datasets import Dataset
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, Seq2SeqTrainer, set_seed
from transformers import Seq2SeqTrainingArguments as Arguments

from conftest import looked_at_every
from hydratune.training.trainer import cpu_speedups
from hydratune.training.trainer.cpu_speedups import use_cpu_speedups

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
VOCABULARY = 5000


def network(kind=BertForSequenceClassification, dropout=0.0):
    """A small BERT with a large table of words."""
    set_seed(0)
    chances = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return kind(BertConfig(vocab_size=VOCABULARY, **SIZES, **chances))


def trainer(folder, model, **arguments):
    """Plain Trainer on 48 texts of words of chance; padding in each."""
    drawn = torch.Generator().manual_seed(1)
    ids = torch.randint(1, VOCABULARY, (48, 12), generator=drawn)
    ids[:, 9:] = 0
    labels = ids if isinstance(model, BertForMaskedLM) else ids[:, 0] % 2
    rows = Dataset.from_dict({"input_ids": ids.tolist(), "labels": labels.tolist()}).with_format("torch")
    given = {"per_device_train_batch_size": 8, "learning_rate": 1e-2, "logging_steps": 1, "max_steps": 12} | arguments
    args = Arguments(str(folder), use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no", **given)
    return Seq2SeqTrainer(model, args, train_dataset=rows)


def curve(model, *, leaner, **arguments):
    """Losses and norms of gradients step by step, and the weights in the end."""
    made = trainer("out", model, **arguments)
    if leaner:
        with use_cpu_speedups(made):
            made.train()
    else:
        made.train()
    steps = [entry for entry in made.state.log_history if "loss" in entry]
    told = torch.tensor([[step["loss"], step["grad_norm"]] for step in steps])
    return told, torch.cat([weight.detach().flatten() for weight in model.parameters()])


@pytest.mark.usefixtures("own_directory")
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"max_grad_norm": 0.1},  # every step is scaled
        {"max_grad_norm": 1e9},  # none is
        {"max_grad_norm": 0.0},  # nothing is measured
        {"gradient_accumulation_steps": 3, "max_grad_norm": 0.1},
        {"weight_decay": 0.1, "optim": "adamw_torch"},
        {"activation_checkpointing": True},
        {"bf16": True},
    ],
    ids=str,
)
def test_the_curve_of_plain_trainer(arguments):
    """Without dropout: its losses, norms of gradients and weights, up to the order in which numbers are added."""
    told, weights = curve(network(), leaner=False, **arguments)
    leaner, leaner_weights = curve(network(), leaner=True, **arguments)
    torch.testing.assert_close(leaner, told, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(leaner_weights, weights, rtol=1e-3, atol=1e-4)
    assert told[-1, 0] < told[0, 0]


@pytest.mark.usefixtures("own_directory")
def test_a_table_that_is_the_head_too():
    """A table whose gradient has all rows is left to torch: the same weights, bit by bit."""
    told, weights = curve(network(BertForMaskedLM), leaner=False)
    leaner, leaner_weights = curve(network(BertForMaskedLM), leaner=True)
    assert torch.equal(leaner, told)
    assert torch.equal(leaner_weights, weights)


def looks_up_rows(model):
    """Whether the table of words is one of those whose gradient is one of rows."""
    made = trainer("out", model)
    with cpu_speedups.gradients_of_rows(made):
        return "forward" in vars(model.get_input_embeddings())


@pytest.mark.usefixtures("own_directory")
def test_which_tables():
    """A large one that trains; not a small one, a frozen one, or one of another kind."""
    assert looks_up_rows(network())
    frozen, small, sparse = network(), network(), network()
    frozen.get_input_embeddings().weight.requires_grad_(False)
    small.resize_token_embeddings(100)
    sparse.get_input_embeddings().sparse = True
    assert not any(looks_up_rows(one) for one in (frozen, small, sparse))


def test_gradients_of_a_table():
    """Rows that are looked up twice, in two calls and after a step, have the gradients that torch gives them."""
    table, plain = nn.Embedding(6, 4, padding_idx=0), nn.Embedding(6, 4, padding_idx=0)
    plain.load_state_dict(table.state_dict())
    rows = cpu_speedups.ArrowRows(table)
    for ids, others in (([[1, 2, 2], [0, 3, 1]], [[5, 1]]), ([[4, 4]], [[0, 2]])):
        for words in (torch.tensor(ids), torch.tensor(others)):
            (rows(words) ** 2).sum().backward()
            (plain(words) ** 2).sum().backward()
        torch.testing.assert_close(table.weight.grad, plain.weight.grad)
        torch.testing.assert_close(rows.values().norm(), plain.weight.grad.norm())
        table.zero_grad()
        plain.zero_grad()


@pytest.mark.usefixtures("own_directory")
def test_everything_is_put_back():
    """After training, also after training that failed, functions and modules are those of before."""
    stock, model = functional.dropout, network()
    made = trainer("out", model)
    model.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), use_cpu_speedups(made):
        made.train()
    assert functional.dropout is stock
    assert "forward" not in vars(model.get_input_embeddings())
    assert "_clip_grad_norm" not in vars(made)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout(p, dtype):
    """Values are zero by chance `p`, each by itself, others are scaled so that the mean stays; the gradient is theirs."""
    torch.manual_seed(0)
    values = torch.ones(1000, 1001, dtype=dtype, requires_grad=True)
    with cpu_speedups.quick_dropout():
        dropped = functional.dropout(values, p)
    zero = dropped == 0
    sigma = math.sqrt(p * (1 - p) / zero.numel())
    assert abs(zero.float().mean() - p) < 5 * sigma
    assert abs((zero[:, 1:] & zero[:, :-1]).float().mean() - p * p) < 5 * sigma
    assert abs((zero[1:] & zero[:-1]).float().mean() - p * p) < 5 * sigma
    torch.testing.assert_close(dropped[~zero], torch.full_like(dropped, 1 / (1 - p))[~zero], rtol=2e-5, atol=0)
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped)


def test_dropout_by_seed():
    """The same seed drops the same values; the next draw drops others."""
    values = torch.ones(100)
    with cpu_speedups.quick_dropout():
        torch.manual_seed(0)
        first, second = functional.dropout(values, 0.5), functional.dropout(values, 0.5)
        torch.manual_seed(0)
        again = functional.dropout(values, 0.5)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("p", "training", "left"), [(0.5, False, 1.0), (0.0, True, 1.0), (1.0, True, 0.0), (1e-9, True, 1.0)]
)
def test_no_chance(p, training, left):
    """Nothing is drawn in evaluation, or where nothing or everything goes."""
    with cpu_speedups.quick_dropout():
        assert torch.equal(functional.dropout(torch.ones(9), p, training), torch.full((9,), left))


def test_dropout_learns_the_same(train, toy):
    """The tiny network reaches the accuracy that it reaches without."""
    learn = ["trainer.args.num_train_epochs=40", *looked_at_every(20)]
    plain = train(*toy, "hardware.cpu_optimizations=false", *learn, directory="plain")
    leaner = train(*toy, *learn)
    assert plain.metrics["test_accuracy"] == leaner.metrics["test_accuracy"] == 1.0
