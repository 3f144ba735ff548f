"""The loss of an evaluation is the mean over all labels or rows, at any batch size and in any number of processes."""

import functools

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForCausalLM,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    default_data_collator,
    set_seed,
)

from hydratune.tasks.base import EvalSplit
from hydratune.tasks.language_modeling import mean_scores, token_scores
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.training.eval_sets import EvalSets
from hydratune.training.trainer.trainer import Trainer
from two_ranks import measured_by_two_ranks

ROWS = 10
SETS = {"a": 7, "b": 5}


def causal():
    """GPT-2, which shifts its labels."""
    return GPT2LMHeadModel(GPT2Config(vocab_size=9, n_positions=8, n_embd=8, n_layer=1, n_head=1))


def tagger():
    """BERT with a label for each token."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return BertForTokenClassification(BertConfig(vocab_size=9, num_labels=9, **sizes))


def classifier():
    """BERT with a label for each row."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return BertForSequenceClassification(BertConfig(vocab_size=9, num_labels=2, **sizes))


def translator():
    """T5, whose labels are not shifted."""
    sizes = {"d_model": 8, "d_ff": 8, "d_kv": 8, "num_layers": 1, "num_heads": 1}
    ids = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
    return T5ForConditionalGeneration(T5Config(vocab_size=9, **sizes, **ids))


TOKEN_LEVEL = [causal, tagger, translator]


def data(make, rows=ROWS):
    """Rows of 6 tokens and 0 to 6 labels, or one label for a classifier."""
    ids = torch.randint(2, 9, (rows, 6), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    for row in range(rows):
        labels[row, (3 * row) % 7 :] = -100
    return Dataset.from_dict(
        {"input_ids": ids.tolist(), "labels": (ids[:, 0] % 2 if make is classifier else labels).tolist()}
    )


def trainer(make, folder, batch_size, **more):
    """A Trainer of a model whose logits are far from uniform, so that its losses differ between rows."""
    set_seed(1)
    named = {name: more.pop(name) for name in ("compute_loss_func", "compute_metrics") if name in more}
    if "compute_metrics" in named:
        named["preprocess_logits_for_metrics"] = functools.partial(token_scores, shift=make is causal)
    args = Seq2SeqTrainingArguments(
        str(folder),
        per_device_eval_batch_size=batch_size,
        per_device_train_batch_size=2,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        **more,
    )
    model = make()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(5 if weight.dim() > 1 else 1)
    return Trainer(model=model, args=args, data_collator=default_data_collator, train_dataset=data(make), **named)


def whole_loss(make, folder, rows=ROWS):
    """The loss of one batch of all rows, which the model itself computes."""
    model = trainer(make, folder, 1).model.eval()
    with torch.no_grad():
        return model(**{name: torch.tensor(values) for name, values in data(make, rows).to_dict().items()}).loss.item()


@pytest.mark.parametrize("batch_size", [1, 4, 10])
@pytest.mark.parametrize("make", [*TOKEN_LEVEL, classifier])
def test_eval_loss_does_not_depend_on_the_batch_size(tmp_path, make, batch_size):
    """Labels count, or rows, also in a last batch that is not full, and in a batch without any label."""
    loss = trainer(make, tmp_path, batch_size).evaluate(data(make))["eval_loss"]
    assert loss == pytest.approx(whole_loss(make, tmp_path), rel=1e-5)


def experts(balanced=True):
    """A mixture of experts, with the loss that balances their load or without."""
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    options = {"num_key_value_heads": 1, "num_local_experts": 2, "num_experts_per_tok": 1, "router_aux_loss_coef": 0.5}
    return MixtralForCausalLM(MixtralConfig(vocab_size=9, output_router_logits=balanced, **sizes, **options))


@pytest.mark.parametrize("batch_size", [1, 4, 10])
def test_eval_loss_has_no_loss_of_routers(tmp_path, batch_size):
    """It is that of the labels at any batch size; training adds the loss that balances the load."""
    expected = whole_loss(functools.partial(experts, balanced=False), tmp_path)
    evaluated = trainer(experts, tmp_path, batch_size)
    loss = evaluated.evaluate(data(experts))["eval_loss"]
    assert loss == pytest.approx(expected, rel=1e-5)
    assert evaluated.model.config.output_router_logits
    assert whole_loss(experts, tmp_path) > expected + 0.1


@pytest.mark.parametrize("batch_size", [3, 10])
def test_eval_loss_is_the_mean_over_labels_where_text_is_generated(tmp_path, batch_size):
    """Upstream takes another path there."""
    options = {"predict_with_generate": True, "generation_max_length": 4}
    loss = trainer(translator, tmp_path, batch_size, **options).evaluate(data(translator))["eval_loss"]
    assert loss == pytest.approx(whole_loss(translator, tmp_path), rel=1e-5)


@pytest.mark.parametrize("make", [causal, tagger])
def test_eval_loss_is_the_logarithm_of_the_perplexity(tmp_path, make):
    """Both are means over the same labels."""
    scored = trainer(make, tmp_path, 3, compute_metrics=lambda prediction: mean_scores(prediction.predictions))
    metrics = scored.evaluate(data(make))
    assert metrics["eval_loss"] == pytest.approx(metrics["eval_nats"], rel=1e-5)


def summed(outputs, labels, num_items_in_batch=None):
    """A loss function of a user, which divides by the number that it is given."""
    return nn.functional.cross_entropy(outputs["logits"].flatten(0, 1), labels.flatten(), reduction="sum") / (
        num_items_in_batch
    )


@pytest.mark.parametrize("batch_size", [3, 10])
def test_eval_loss_of_a_loss_function_is_the_mean_over_labels(tmp_path, batch_size):
    """A loss function that the user brings is weighted by labels too."""
    rows = data(tagger).filter(lambda row: row["labels"][0] != -100)  # it would divide by zero
    loss = trainer(tagger, tmp_path, batch_size, compute_loss_func=summed).evaluate(rows)["eval_loss"]
    assert loss == pytest.approx(whole_loss(tagger, tmp_path), rel=1e-5)


def test_eval_loss_shows_a_batch_that_is_not_finite(tmp_path):
    """Upstream leaves such batches out of the mean."""
    one = trainer(classifier, tmp_path, 5)

    def infinite(module, arguments, named, outputs):  # noqa: ARG001
        outputs.loss *= float("inf") if named["input_ids"][0].tolist() == data(classifier)[0]["input_ids"] else 1
        return outputs

    one.model.register_forward_hook(infinite, with_kwargs=True)
    assert one.evaluate(data(classifier))["eval_loss"] == float("inf")


def test_drop_last_drops_no_rows_in_evaluation(tmp_path):
    """`dataloader_drop_last` is for training: 10 rows in batches of 4 are 2 steps, and 10 predictions."""
    one = trainer(classifier, tmp_path, 4, dataloader_drop_last=True)
    assert len(one.predict(data(classifier)).predictions) == ROWS
    assert one.evaluate(data(classifier))["eval_loss"] == pytest.approx(whole_loss(classifier, tmp_path), rel=1e-5)
    assert len(one.get_eval_dataloader(data(classifier))) == 3
    one.train_dataset = data(classifier, rows=9)
    assert len(one.get_train_dataloader()) == 4


def over_sets(one):
    """Metrics of an evaluation on two sets, whose numbers of rows no number of processes divides."""
    task = SequenceClassification(metrics=["accuracy"])
    head = {"num_labels": 2, "id2label": {0: "a", 1: "b"}}
    one.preprocess_logits_for_metrics = task.reduce_logits
    one.validation_sets = EvalSets(task, {name: EvalSplit(data(classifier, rows), head) for name, rows in SETS.items()})
    metrics = one.evaluate()
    return [metrics[name] for name in ("eval_a_loss", "eval_mean_loss", "eval_b_accuracy", "eval_min_accuracy")]


def measured(folder):
    """What a process reports of each model: the loss and the number of rows of an evaluation, and of a training."""
    found = {}
    for make in (*TOKEN_LEVEL, classifier):
        one = trainer(make, folder, 3, dataloader_drop_last=True)
        output = one.predict(data(make, rows=7))
        found[make.__name__] = [output.metrics["test_loss"], len(output.predictions)]
    rows = data(tagger).filter(lambda row: row["labels"][0] != -100)
    found["summed"] = trainer(tagger, folder, 2, compute_loss_func=summed).evaluate(rows)["eval_loss"]
    found["sets"] = over_sets(trainer(classifier, folder, 3))
    size = 4 // one.args.world_size
    options = {"max_steps": 3, "learning_rate": 0.0, "logging_steps": 2}
    training = trainer(tagger, folder, 3, **options)
    training.args.per_device_train_batch_size = training._train_batch_size = size
    training.train_dataset = data(tagger, rows=12)  # else two processes would read the first rows twice
    training.model.eval()
    training.model.train = lambda mode=True: training.model  # noqa: ARG005 (no dropout)
    found["train_loss"] = training.train().training_loss
    return found


@pytest.mark.slow
def test_losses_of_two_processes_are_those_of_one(tmp_path):
    """Evaluation scores each row once, also with `dataloader_drop_last`; `train_loss` is the mean over all ranks."""
    both = measured_by_two_ranks(measured, tmp_path)
    expected = measured(tmp_path)
    for rank, reported in enumerate(both):
        assert reported.keys() == expected.keys()
        for name, value in expected.items():
            assert reported[name] == pytest.approx(value, rel=1e-4), (rank, name)
