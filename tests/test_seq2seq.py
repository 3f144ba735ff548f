"""Texts for texts: generation, scores by their libraries."""

import pytest
from datasets import Dataset, DatasetDict
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

from conftest import predictions, write_rows
from hydratune.tasks.generation_metrics import GENERATION
from hydratune.tasks.seq2seq import Seq2Seq

CASES = {
    "usual": (["the cat sat on the mat", "a dog"], ["the cat sat on a mat", "the dog"]),
    "identical": (["the cat sat on the mat"], ["the cat sat on the mat"]),
    "nothing predicted": (["the cat sat"], [""]),
    "nothing asked for": (["", "a b c d"], ["the cat", "a b c d"]),
    "another script": (["猫が座った"], ["猫が寝た"]),
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
    for name, metric in GENERATION.items():
        assert metric().compute(references=true, predictions=said)[name] == pytest.approx(reference[name], abs=1e-6), (
            name
        )


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
        "trainer.args.learning_rate=0.02",
    ]
    result = train(*files(own_directory), *LEARN, *model)
    assert result.metrics["test_exact_match"] == 1
    rows = predictions(result)
    assert rows[0] == {"label": "good", "prediction": "good"}
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


def test_what_is_cut_is_said(tiny_model):
    """Sources and targets over their lengths are counted."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = Dataset.from_dict({"source": ["good " * 40, "film", "film"], "target": ["film", "bad " * 40, "film"]})
    data = Seq2Seq(max_target_length=10).prepare(DatasetDict(train=rows), tokenizer, 16, None)
    assert data.said == ["2 sources or targets were cut to 16 tokens: 2 of train"]
    assert max(map(len, data.splits["train"]["labels"])) == 10
