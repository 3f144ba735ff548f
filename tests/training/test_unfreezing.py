"""Parameters that begin to train at a later epoch."""

import pytest
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    default_data_collator,
    get_scheduler,
    set_seed,
)

from hydratune.training.trainer.trainer import Trainer
from hydratune.training.trainer.unfreezing import check_unfreezing
from hydratune.utils.errors import ConfigError
from two_ranks import measured_by_two_ranks

ROWS = Dataset.from_dict({"input_ids": [[3, 4, i % 5] for i in range(8)], "labels": [i % 2 for i in range(8)]})
UNFREEZE = {"embeddings": 2, "encoder": 1}
STARTS = {"bert.embeddings": 2, "bert.encoder": 1}  # other parameters train from the start


def bert():
    """A classifier of one layer without dropout."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForSequenceClassification(BertConfig(vocab_size=9, num_labels=2, **sizes, **still))


def trainer(folder, size=4, callbacks=(), **settings):
    """A Trainer of three epochs of two steps in a fixed order."""
    set_seed(1)
    options = {"learning_rate": 0.01, "weight_decay": 0.1, "num_train_epochs": 3, "use_cpu": True}
    options |= {"train_sampling_strategy": "sequential", "per_device_train_batch_size": size, "save_strategy": "no"}
    args = Seq2SeqTrainingArguments(str(folder), report_to="none", optim="adamw_torch", disable_tqdm=True, **options)
    data = {"train_dataset": ROWS, "data_collator": default_data_collator}
    return Trainer(model=bert(), args=args, callbacks=[*callbacks], **data, **settings)


def start(name):
    """The epoch at which a parameter begins to train."""
    return next((epoch for prefix, epoch in STARTS.items() if name.startswith(prefix)), 0)


def plain_loop():
    """The parameters after the same training with gradients of later parameters removed before they are clipped."""
    set_seed(1)
    model = bert().train()
    parameters = dict(model.named_parameters())
    groups = [
        {"params": [p], "weight_decay": 0.1 if name.endswith("weight") and "LayerNorm" not in name else 0.0}
        for name, p in parameters.items()
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=6)
    for step in range(6):
        rows = [ROWS[i] for i in range(4 * step % 8, 4 * step % 8 + 4)]
        model(**default_data_collator(rows)).loss.backward()
        for name, parameter in parameters.items():
            if step // 2 < start(name):
                parameter.grad = None
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return parameters


def test_unfreezing_trains_as_a_plain_loop(tmp_path):
    """Neither the optimizer, nor weight decay, nor the norm of the gradient counts frozen parameters."""
    ours = trainer(tmp_path, unfreeze=UNFREEZE)
    ours.train()
    expected = plain_loop()
    for name, weight in ours.model.named_parameters():
        assert torch.allclose(weight, expected[name], atol=1e-6, rtol=0), name


def test_unfreezing_computes_no_gradient_of_frozen_parameters(tmp_path):
    """Their backward pass is left out in a single process, and everything is trainable in the end."""
    trainable = []

    class Records(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **_):  # noqa: ARG002
            trainable.append({name for name, parameter in model.named_parameters() if parameter.requires_grad})

    ours = trainer(tmp_path, unfreeze=UNFREEZE, callbacks=[Records()])
    ours.train()
    names = [name for name, _ in ours.model.named_parameters()]
    assert trainable == [{name for name in names if start(name) <= step // 2} for step in range(6)]
    assert all(parameter.requires_grad for parameter in ours.model.parameters())


def trained(folder):
    """The parameters of a process after the training, as numbers."""
    ours = trainer(folder / "run", size=2, unfreeze=UNFREEZE)
    ours.train()
    return [weight.flatten().tolist() for weight in ours.model.parameters()]


@pytest.mark.slow
def test_two_processes_unfreeze_as_one(tmp_path):
    """DDP sums the gradients of parameters that it did not train before."""
    expected = [weight.flatten() for weight in plain_loop().values()]
    for weights in measured_by_two_ranks(trained, tmp_path):
        pairs = zip(weights, expected, strict=True)
        assert all(torch.allclose(torch.tensor(ours), weight, atol=1e-5, rtol=0) for ours, weight in pairs)


@pytest.mark.parametrize(
    ("unfreeze", "keys"),
    [
        (UNFREEZE, []),
        ({"embeding": 1}, ["trainer.unfreeze.embeding"]),
        ({"*": 1}, ["trainer.unfreeze"]),
        ({"pooler": 1}, ["trainer.unfreeze.pooler"]),
    ],
)
def test_check_unfreezing_compares_patterns(unfreeze, keys):
    """Each pattern selects parameters that train, and some train from the start."""
    model = bert()
    model.bert.pooler.requires_grad_(False)
    found = []
    try:
        check_unfreezing(unfreeze, model)
    except ConfigError as error:
        found = [problem.key for problem in error.problems]
    assert found == keys
