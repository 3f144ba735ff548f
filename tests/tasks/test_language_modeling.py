"""Causal language models: blocks, bytes, scores that no batch size changes."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import BertConfig, EvalPrediction, GPT2Config

from conftest import looked_at_every
from hydratune.models.from_config import byte_tokenizer
from hydratune.tasks.base import EvalSplit
from hydratune.tasks.causal_lm import CausalLm
from hydratune.tasks.language_modeling import mean_scores, token_scores
from hydratune.utils.errors import ConfigError

TEXTS = ["First line.", "", "Zweite Zeile: naïve café ☕", "x" * 50]


def prepare(texts, **options):
    """Blocks of some texts, in bytes."""
    return CausalLm(**options).prepare(
        DatasetDict(train=Dataset.from_dict({"text": texts})), byte_tokenizer(), None, None
    )


@pytest.mark.parametrize("text", ["", "naïve ☕\n\ttab\x00", "日本語", "  spaces  "])
def test_bytes_lose_nothing(text):
    """Each byte is a token, and the text comes back."""
    tokenizer = byte_tokenizer()
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("size", [2, 7, 16])
def test_blocks_are_the_text(size):
    """Joined blocks are the joined texts but for less than a block, without padding; blank lines stay."""
    rows = prepare(TEXTS, block_size=size, document_separator="newline").splits["train"]
    assert set(map(len, rows["input_ids"])) == {size}
    joined = byte_tokenizer().decode([token for row in rows["input_ids"] for token in row])
    whole = "".join(f"{text}\n" for text in TEXTS)
    assert whole.encode().startswith(joined.encode()[: -size or None])
    assert len(whole.encode()) - size < len(rows) * size <= len(whole.encode())


def test_the_end_token_parts_texts():
    """By default each text is followed by the end token, which is no byte of the text."""
    rows = prepare(["ab", "cd"], block_size=6).splits["train"]
    tokenizer = byte_tokenizer()
    assert rows[0]["input_ids"] == [
        *tokenizer("ab")["input_ids"],
        tokenizer.eos_token_id,
        *tokenizer("cd")["input_ids"],
        tokenizer.eos_token_id,
    ]
    assert rows[0]["bytes"] == 4


def test_less_than_a_block():
    """A split that fills no block is told, with how many tokens it has."""
    with pytest.raises(ConfigError, match=r"\btrain has only 3 tokens.*\b128\b") as caught:
        prepare(["ab"])
    assert [problem.key for problem in caught.value.problems] == ["task.block_size"]


def rows_of(count, vocabulary=11, length=9):
    """Random logits and labels; some labels are ignored."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, length, vocabulary, generator=generator)
    labels = torch.randint(vocabulary, (count, length), generator=generator)
    labels[:, :2] = -100
    labels[1, 3:] = -100
    return logits, labels


@pytest.mark.parametrize("shift", [True, False])
def test_scores_are_those_of_torch(shift):
    """Perplexity and accuracy over all counted tokens are those of one cross entropy over everything."""
    logits, labels = rows_of(5)
    said, true = (
        (logits[:, :-1].reshape(-1, 11), labels[:, 1:].reshape(-1))
        if shift
        else (logits.reshape(-1, 11), labels.reshape(-1))
    )
    loss = torch.nn.functional.cross_entropy(said, true)  # ignores -100, a mean over tokens
    counted = true != -100
    scores = mean_scores(token_scores(logits, labels, shift).numpy())
    assert scores["perplexity"] == pytest.approx(math.exp(loss), rel=1e-6)
    assert scores["accuracy"] == pytest.approx((said.argmax(-1) == true)[counted].double().mean().item(), abs=1e-9)


def test_scores_do_not_depend_on_the_batch():
    """Rows of different lengths count by their tokens, however they are batched."""
    logits, labels = rows_of(6)
    whole = token_scores(logits, labels, shift=True)
    parts = torch.cat([token_scores(logits[i : i + 1], labels[i : i + 1], shift=True) for i in range(6)])
    assert torch.equal(whole, parts)


def test_a_hopeless_model_is_infinitely_perplexed():
    """A sum that no float holds is infinite, and not an error."""
    assert mean_scores(np.array([[1e6, 1, 0]]))["perplexity"] == math.inf


def test_bits_per_byte():
    """A model that gives each of 256 bytes the same chance needs 8 bits a byte; end tokens spread over the bytes."""
    task = CausalLm(metrics=["bits_per_byte"], block_size=6)
    rows = prepare(["ab", "cd"], block_size=6).splits["train"]
    totals = np.array([[5 * math.log(256), 5, 0]])
    value = task.compute_metrics(EvalPrediction(totals, None), EvalSplit(rows, {}))["bits_per_byte"]
    assert value == pytest.approx(8 * 6 / 4)


def test_networks_that_see_both_sides():
    """BERT would see what it is to predict; as a decoder it does not. GPT-2 has no masks to fill."""
    with pytest.raises(ConfigError, match=r"\bbert\b") as caught:
        CausalLm().check_network(BertConfig())
    (problem,) = caught.value.problems
    assert problem.key == "model"
    assert problem.hints[1:] == ["set task=masked_lm", "set model.config.is_decoder=true for causal attention"]
    CausalLm().check_network(BertConfig(is_decoder=True))
    CausalLm().check_network(GPT2Config())


def test_learns(train, tiny_gpt, own_directory):
    """The tiny network learns a pattern, far below the perplexity of its letters' frequencies; nothing is predicted in words."""
    (own_directory / "a.txt").write_text("abcdefgh\n" * 400)
    files = [f"dataset.files.{split}=a.txt" for split in ("train", "validation", "test")]
    learn = [
        "trainer.args.max_steps=150",
        "trainer.args.learning_rate=0.02",
        "task.block_size=32",
        "task.document_separator=newline",
        *looked_at_every(50),
    ]
    result = train("dataset=local", "task=causal_lm", *files, *tiny_gpt, *learn)
    assert result.metrics["test_perplexity"] < 2
    assert result.metrics["test_bits_per_byte"] == pytest.approx(math.log2(result.metrics["test_perplexity"]))
    assert not (result.directory / "predictions.jsonl").exists()


def test_a_streamed_run(train, tiny_gpt, own_directory):
    """A text larger than memory is packed while it is read."""
    (own_directory / "a.txt").write_text("abcdefgh\n" * 400)
    (own_directory / "b.txt").write_text("abcdefgh\n" * 40)
    files = ["dataset.files.train=a.txt", "dataset.files.validation=b.txt", "dataset.streaming=true"]
    result = train(
        "dataset=local", "task=causal_lm", *files, *tiny_gpt, "task.block_size=32", "trainer.args.max_steps=3"
    )
    assert result.metrics["step"] == 3


def test_lines_of_a_text_stay_together(own_directory):
    """Validation and test are the end of a text file, and a limit is its beginning: lines are not drawn at random."""
    from hydratune.data import LocalFiles

    lines = [f"line {i}" for i in range(100)]
    (own_directory / "a.txt").write_text("\n".join(lines) + "\n")
    source = LocalFiles(files={"train": "a.txt"}, validation_size=0.1, test_size=0.1, max_samples={"test": 3})
    splits = source.load(CausalLm(document_separator="newline"))
    assert [*splits["train"]["text"], *splits["test"]["text"]] == [*lines[:80], *lines[80:83]]
    assert splits["validation"]["text"] == lines[90:]
    assert source.load(CausalLm())["train"]["text"] != lines[:81]
