"""Texts for texts: generation, scores by their libraries."""

import pytest
from datasets import Dataset, DatasetDict
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF
from transformers import (
    AutoTokenizer,
    BartConfig,
    BertConfig,
    EncoderDecoderConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from conftest import UPSTREAM, looked_at_every, predictions, write_rows
from hydratune.models import EncoderDecoder, Pretrained
from hydratune.tasks.metrics.generation import GENERATION
from hydratune.tasks.seq2seq import Seq2Seq
from hydratune.utils.errors import ConfigError

CASES = {
    "usual": (["the cat sat on the mat", "a dog"], ["the cat sat on a mat", "the dog"]),
    "identical": (["the cat sat on the mat"], ["the cat sat on the mat"]),
    "nothing predicted": (["the cat sat"], [""]),
    "nothing asked for": (["", "a b c d"], ["the cat", "a b c d"]),
}


@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_the_libraries(case):
    """ROUGE, BLEU and chrF of awkward texts, to 1e-6."""
    true, said = CASES[case]
    reference = {
        "bleu": BLEU().corpus_score(said, [true]).score,
        "chrf": CHRF().corpus_score(said, [true]).score,
        "exact_match": sum(a == b for a, b in zip(true, said, strict=True)) / len(true),
    }
    for kind in ("rouge1", "rouge2", "rougeL"):
        scorer = RougeScorer([kind], use_stemmer=False)
        values = [scorer.score(a, b)[kind].fmeasure for a, b in zip(true, said, strict=True)]
        reference[kind] = sum(values) / len(values)
    for metric in GENERATION:
        value = metric.compute({"references": true, "predictions": said, "tokenizer": "13a"})
        assert value == pytest.approx(reference[metric.name], abs=1e-6), metric.name


def files(folder):
    """Overrides of three files: a text and its last word."""
    rows = [
        {"source": f"the {thing} was {word}", "target": word}
        for thing in ("film", "book")
        for word in ("good", "bad", "great")
    ]
    for split in ("train", "validation", "test"):
        write_rows(folder / f"{split}.jsonl", rows)
    return ["dataset=local", *(f"dataset.files.{split}={split}.jsonl" for split in ("train", "validation", "test"))]


LEARN = [
    "task=seq2seq",
    "task.metrics=[rougeL,bleu,exact_match]",
    "task.max_target_length=8",
    "hardware=cpu",
    "hardware.threads=1",
]


def test_two_encoders_learn_to_write(train, own_directory, tiny_model):
    """An encoder-decoder of two tiny BERTs learns the words; evaluation generates, and so does the saved model."""
    model = [
        "model=minilm_seq2seq",
        f"model.encoder={tiny_model}",
        "trainer.args.max_steps=300",
        "trainer.args.learning_rate=0.01",
    ]
    result = train(*files(own_directory), *LEARN, *model, *looked_at_every(100))
    assert result.metrics["test_exact_match"] == 1
    rows = predictions(result)
    assert rows[0] == {"row": 0, "source": "the film was good", "label": "good", "prediction": "good"}
    from transformers import AutoModelForSeq2SeqLM

    network = AutoModelForSeq2SeqLM.from_pretrained(result.directory / "model")
    tokenizer = AutoTokenizer.from_pretrained(result.directory / "model")
    ids = network.generate(**tokenizer("the book was great", return_tensors="pt"), max_length=8)
    assert tokenizer.decode(ids[0], skip_special_tokens=True).strip() == "great"


def test_t5(train, own_directory, tiny_model, tmp_path):
    """An encoder-decoder of its own kind takes the same two steps, with beams."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    special = {"pad_token_id": 0, "eos_token_id": tokenizer.sep_token_id, "decoder_start_token_id": 0}
    T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **sizes, **special)).save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    model = ["model=pretrained", f"model.pretrained_model_name_or_path={tmp_path / 't5'}", "trainer.args.max_steps=2"]
    result = train(*files(own_directory), *LEARN, *model, "task.num_beams=2", "task.prefix='good: '")
    assert {"test_rougeL", "test_bleu"} <= set(result.metrics)


def test_a_saved_pair_starts_another_run(tiny_model, tmp_path):
    """What an encoder-decoder's run leaves is a checkpoint like any other, with nothing new in it."""
    pair = EncoderDecoder(encoder=str(tiny_model), attn_implementation="eager")
    config = pair.load_config()
    tokenizer = pair.load_processor("tokenizer", config)
    first = pair.load_network("AutoModelForSeq2SeqLM", config, {})
    assert any("cls.predictions.transform" in name for name in first.new)  # as untrained as the attention
    assert {part._attn_implementation for part in (config.encoder, config.decoder)} == {"eager"}
    first.module.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = Pretrained(pretrained_model_name_or_path=str(tmp_path))
    config = again.load_config()
    again.load_processor("tokenizer", config)
    assert again.load_network("AutoModelForSeq2SeqLM", config, {}).new == ()


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_network_from_scratch_learns_to_stop(train, own_directory, kind):
    """Bytes have no end of their own: each target gets one, and generation stops there."""
    sizes = {
        "t5": {"d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2},
        "bart": {
            f"{side}_{name}": value
            for side in ("encoder", "decoder")
            for name, value in {"layers": 1, "attention_heads": 2, "ffn_dim": 32}.items()
        }
        | {"d_model": 32, "max_position_embeddings": 64},
    }[kind]
    model = ["model=scratch", f"model.model_type={kind}", "model.tokenizer=bytes", "model.dropout=0"]
    config = [f"+model.config.{name}={value}" for name, value in sizes.items()]
    steps = ["trainer.args.max_steps=250", "trainer.args.learning_rate=0.01", "trainer.args.eval_strategy=no"]
    never = ["trainer.args.save_strategy=no", "trainer.args.load_best_model_at_end=false"]
    result = train(*files(own_directory), *LEARN, *model, *config, *steps, *never, "task.max_target_length=12")
    assert {row["prediction"] for row in predictions(result)} <= {"good", "bad", "great"}


def test_evaluation_has_to_generate(train, own_directory, tiny_model):
    """Scores of words that follow the true ones would flatter: a Trainer that does not generate is refused."""
    model = ["model=minilm_seq2seq", f"model.encoder={tiny_model}", "trainer.args.max_steps=2"]
    with pytest.raises(ConfigError) as caught:
        train(*files(own_directory), *LEARN, *model, *UPSTREAM[:2], "trainer._target_=transformers.Trainer")
    (problem,) = caught.value.problems
    assert problem.key == "trainer"
    assert "trainer._target_" in problem.hint


def test_targets_have_positions():
    """Targets over the decoder's positions would end in an index out of range."""
    side = BertConfig(max_position_embeddings=32)
    task = Seq2Seq(max_target_length=33)
    for config in (
        EncoderDecoderConfig.from_encoder_decoder_configs(side, side),
        BartConfig(max_position_embeddings=32),
    ):
        with pytest.raises(ConfigError) as caught:
            task.check_network(config)
        (problem,) = caught.value.problems
        assert (problem.key, problem.hints) == ("task.max_target_length", ["set task.max_target_length=32"])
        Seq2Seq(max_target_length=32).check_network(config)
    task.check_network(T5Config())


def test_what_is_cut_is_said(tiny_model):
    """Sources and targets over their lengths are counted."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = Dataset.from_dict({"source": ["good " * 40, "film", "film"], "target": ["film", "bad " * 40, "film"]})
    data = Seq2Seq(max_target_length=10).prepare(DatasetDict(train=rows), tokenizer, 16, None)
    assert data.notes == ["2 sources or targets were truncated to 16 tokens: 2 of train"]
    assert max(map(len, data.splits["train"]["labels"])) == 10
