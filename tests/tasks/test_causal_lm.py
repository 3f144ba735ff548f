"""Texts as the tokenizer would read them whole, what is lost at the end, networks that do not look ahead."""

import pytest
import torch
from datasets import Dataset, DatasetDict, IterableDatasetDict
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BertConfig,
    BertGenerationConfig,
    GPT2Config,
    PreTrainedTokenizerFast,
    XLNetConfig,
)

from hydratune.models.from_config import byte_tokenizer
from hydratune.tasks import causal_lm, language_modeling
from hydratune.tasks.causal_lm import CausalLm
from hydratune.tasks.language_modeling import mean_scores, token_scores
from hydratune.utils.errors import ConfigError

LINES = ["ab cd", "", "  ef", "cd"] * 5


@pytest.fixture(scope="module")
def tokenizer():
    """One that puts a space before a text, as those of Llama and T5 do."""
    special = ["</s>", "<unk>", "▁", "\n"]
    letters = models.BPE(
        vocab={token: i for i, token in enumerate([*special, *"abcdef"])}, merges=[], unk_token="<unk>"
    )
    words = Tokenizer(letters)
    words.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    words.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", pad_token="</s>", unk_token="<unk>")


def tokens(rows):
    """All tokens of some blocks, one after the other."""
    return [token for row in rows for token in row["input_ids"]]


def test_lines_are_read_as_one_text(tokenizer):
    """The tokens of a text file's lines are those of the text, with no space that the file has not."""
    splits = DatasetDict(train=Dataset.from_dict({"text": LINES}))
    data = CausalLm(block_size=2, document_separator="newline").prepare(splits, tokenizer, None, None).splits["train"]
    whole = tokenizer("".join(f"{line}\n" for line in LINES), add_special_tokens=False)["input_ids"]
    assert tokens(data) == whole[: len(whole) // 2 * 2]


def test_streamed_lines_are_those_of_the_file(tokenizer, monkeypatch):
    """A stream is cut into texts where a file in memory is, and no line is lost there."""
    monkeypatch.setattr(causal_lm, "PIECE", 20)
    task, lines = CausalLm(block_size=2, document_separator="newline"), Dataset.from_dict({"text": LINES})
    read = task.prepare(DatasetDict(train=lines), tokenizer, None, None).splits["train"]
    stream = IterableDatasetDict(train=lines.to_iterable_dataset())
    streamed = task.prepare(stream, tokenizer, None, None).splits["train"]
    assert tokens(read) == tokens(streamed)
    text = tokenizer.decode(tokens(read))  # each piece has a space before it
    assert [line.strip() for line in text.splitlines()] == [line.strip() for line in LINES]


@pytest.mark.parametrize(
    ("length", "said"),
    [(255, ["127 of 255 tokens of train do not fill a block of 128 and are dropped"]), (128 * 100 + 100, [])],
)
def test_much_that_is_lost_is_said(length, said):
    """More than a hundredth of the tokens, and no less."""
    splits = DatasetDict(train=Dataset.from_dict({"text": ["a" * (length - 1)]}))
    assert CausalLm(document_separator="newline").prepare(splits, byte_tokenizer(), None, None).notes == said


SIZES = {"vocab_size": 50, "d_model": 16, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
BERT = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
GPT = {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 0, "eos_token_id": 2}
DECODER = {"decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "forced_eos_token_id": 2}


@pytest.mark.parametrize(
    "config",
    [
        BartConfig(**SIZES, **DECODER),
        BertConfig(**BERT),
        BertConfig(**BERT, is_decoder=True),
        BertGenerationConfig(**BERT),
        BertGenerationConfig(**BERT, is_decoder=True),
        GPT2Config(**GPT),
        XLNetConfig(**SIZES, n_layer=2, n_head=2, d_inner=32),
    ],
    ids=lambda config: f"{config.model_type}-{getattr(config, 'is_decoder', '')}",
)
def test_networks_that_look_ahead(config):
    """Those, and only those, are refused whose scores change with tokens that follow."""
    try:
        CausalLm().check_network(config)
        refused = False
    except ConfigError:
        refused = True
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.arange(3, 11)[None]
    other = torch.cat([ids[:, :-1], torch.tensor([[40]])], dim=1)
    with torch.no_grad():
        first, second = (network(one, use_cache=False).logits[:, :-1] for one in (ids, other))
    assert refused == (not torch.equal(first, second))


def test_long_rows_are_scored_in_parts(monkeypatch):
    """Parts change nothing; nor do places before the text, where an adapter has a prompt of its own."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(3, 23, 11, generator=generator), torch.randint(11, (3, 23), generator=generator)
    labels[:, 4:16] = -100
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, 11), labels[:, 1:].reshape(-1))
    monkeypatch.setattr(language_modeling, "PART", 5)
    prompted = torch.cat([torch.randn(3, 4, 11), logits], dim=1)
    for scores in (token_scores(logits, labels, shift=True), token_scores(prompted, labels, shift=True)):
        assert scores.dtype == torch.float32  # Apple's devices have no other
        assert mean_scores(scores.numpy())["nats"] == pytest.approx(expected.item(), rel=1e-6)


def test_a_block_of_one_token():
    """Nothing could be predicted in it."""
    assert [problem.key for problem in CausalLm(max_length=1, block_size=1).check()] == ["block_size", "max_length"]
