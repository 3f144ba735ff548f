"""Adapters: few weights, every task, one line to load them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import looked_at_every, predictions
from hydratune.config.validate import check_config
from hydratune.models.adapters import load
from hydratune.utils.errors import ConfigError
from processes import python

SMALL = {"lora": ["adapter.config.r=2"], "dora": ["adapter.config.r=2"], "ia3": []}


@pytest.mark.parametrize("kind", SMALL)
def test_learns_and_loads(train, toy, tiny_model, own_directory, kind, caplog):
    """An adapter and a new head learn; one line in a fresh process gives the same predictions; frozen weights stay."""
    caplog.set_level("INFO")
    more = ["trainer.args.num_train_epochs=40", "trainer.args.learning_rate=0.03", "hardware.threads=1"]
    result = train(*toy, f"adapter={kind}", *SMALL[kind], *more, *looked_at_every(10))
    assert result.metrics["test_accuracy"] > 0.9 or kind == "ia3"  # scales of random weights learn little
    assert any(message.startswith(f"adapter: {kind.replace('dora', 'lora')}, ") for message in caplog.messages)
    folder = result.directory / "model"
    assert not (folder / "model.safetensors").exists()
    code = (
        "import sys, json; from transformers import pipeline; from hydratune.models.adapters import load;"
        "found = pipeline('text-classification', model=load(sys.argv[1]), tokenizer=sys.argv[1])(json.loads(sys.argv[2]));"
        "print(json.dumps([row['label'] for row in found]))"
    )
    texts = [json.loads(line)["text"] for line in (own_directory / "test.jsonl").read_text().splitlines()]
    assert json.loads(python(code, str(folder), json.dumps(texts))) == [
        row["prediction"] for row in predictions(result)
    ]
    if kind != "dora":  # whose merged weights differ by design
        before = load_file(tiny_model / "model.safetensors")["embeddings.word_embeddings.weight"]
        assert torch.equal(load(folder).bert.embeddings.word_embeddings.weight, before)


def test_merged_weights_need_nothing(train, toy):
    """With `merge` the saved network is a plain one with the same predictions."""
    from transformers import pipeline

    result = train(*toy, "adapter=lora", "adapter.config.r=2", "adapter.merge=true", "trainer.args.num_train_epochs=6")
    folder = result.directory / "model"
    assert not (folder / "adapter_config.json").exists()
    texts = [json.loads(line)["text"] for line in Path("test.jsonl").read_text().splitlines()]
    said = [row["label"] for row in pipeline("text-classification", model=str(folder))(texts)]
    assert said == [row["prediction"] for row in predictions(result)]


TASKS = [
    "multi_label_classification",
    "regression",
    "token_classification",
    "question_answering",
    "multiple_choice",
    "masked_lm",
]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_of_an_encoder(train, tiny, task):
    """Two steps of the shipped experiment with an adapter."""
    few = [f"dataset.max_samples.{split}=32" for split in ("train", "validation", "test")]
    result = train(f"experiment=wordnet_{task}", *tiny, *few, "adapter=lora", "adapter.config.r=2")
    assert (result.directory / "model" / "adapter_model.safetensors").is_file()


def checkpoint(overrides, compose, folder, auto_model):
    """A directory with the random weights of a model from scratch."""
    from hydratune.config.instantiate import build

    model = build(compose(*overrides).model)
    config = model.load_config()
    kind = "image_processor" if auto_model == "AutoModelForImageClassification" else "tokenizer"
    processor = model.load_processor(kind, config)
    model.load_network(auto_model, config, {}).module.save_pretrained(folder)
    processor.save_pretrained(folder)
    return ["model=pretrained", f"model.pretrained_model_name_or_path={folder}"]


@pytest.mark.parametrize("task", ["causal_lm", "supervised_fine_tuning"])
def test_every_task_of_a_decoder(train, compose, tiny_gpt, tmp_path, task):
    """Two steps of the shipped experiment with an adapter in a GPT-2."""
    few = [f"dataset.max_samples.{split}=64" for split in ("train", "validation", "test")]
    model = checkpoint([*tiny_gpt, "model.config.n_positions=512"], compose, tmp_path / "gpt", "AutoModelForCausalLM")
    steps = ["trainer.args.max_steps=2", "adapter=lora", "adapter.config.r=2", "hardware.threads=1"]
    result = train(f"experiment=wordnet_{task}", *model, *few, *steps)
    assert (result.directory / "model" / "adapter_model.safetensors").is_file()


def test_seq2seq_and_images(train, compose, tiny_model, tmp_path):
    """Encoder-decoders and vision transformers take adapters too."""
    few = [f"dataset.max_samples.{split}=32" for split in ("train", "validation", "test")]
    steps = [*few, "adapter=lora", "adapter.config.r=2", "trainer.args.max_steps=2", "hardware.threads=1"]
    train("experiment=wordnet_seq2seq", f"model.encoder={tiny_model}", *steps, "adapter.merge=true", directory="a")
    model = checkpoint(["model=vit_tiny"], compose, tmp_path / "vit", "AutoModelForImageClassification")
    train("experiment=digits", *model, *steps, directory="b")


def test_two_checkpoints_have_to_be_merged(train, tiny_model):
    """An adapter names one checkpoint that it is loaded into; of a network of two it could not be loaded again."""
    with pytest.raises(ConfigError) as caught:
        train(
            "experiment=wordnet_seq2seq", f"model.encoder={tiny_model}", "adapter=lora", "dataset.max_samples.train=32"
        )
    assert [(problem.key, problem.hints) for problem in caught.value.problems] == [
        ("adapter.merge", ["set adapter.merge=true"])
    ]


def test_a_checkpoint_is_found_from_anywhere(train, toy_files, tiny_model, tmp_path, monkeypatch):
    """A checkpoint that was named from one directory is found from another."""
    shutil.copytree(tiny_model, "checkpoint")
    model = ["model=pretrained", "model.pretrained_model_name_or_path=./checkpoint"]
    result = train(*toy_files, *model, "adapter=lora", "trainer.args.max_steps=1", "hardware.threads=1")
    monkeypatch.chdir(tmp_path)
    assert load(result.directory / "model").config.id2label == {0: "neg", 1: "pos"}


def test_four_bits(train, compose, toy_files, tiny_model, own_directory):
    """Frozen weights of 4 bits beside an adapter and a whole new head: it learns, and it is loaded as it was."""
    pytest.importorskip("bitsandbytes")
    from transformers import AutoTokenizer, pipeline

    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    scratch = ["model=scratch", "model.model_type=bert", f"model.tokenizer={tiny_model}"]
    scratch += [f"+model.config.{name}={value}" for name, value in sizes.items()]
    model = checkpoint(scratch, compose, own_directory / "bert", "AutoModel")
    more = ["trainer.args.num_train_epochs=40", "trainer.args.learning_rate=0.03", "hardware=cpu", "hardware.threads=1"]
    result = train(*toy_files, *model, "adapter=qlora", *more)
    assert result.metrics["test_accuracy"] > 0.9
    folder = result.directory / "model"
    network = load(folder)
    assert network.bert.encoder.layer[0].output.dense.base_layer.weight.dtype == torch.uint8
    texts = [json.loads(line)["text"] for line in (own_directory / "test.jsonl").read_text().splitlines()]
    said = pipeline("text-classification", model=network, tokenizer=AutoTokenizer.from_pretrained(folder))(texts)
    assert [row["label"] for row in said] == [row["prediction"] for row in predictions(result)]


def test_nothing_to_adapt(train):
    """An adapter in random weights would train next to nothing: it is refused."""
    with pytest.raises(ConfigError) as caught:
        train("experiment=digits", "adapter=lora", "dataset.max_samples.train=32")
    assert [(problem.key, problem.hints) for problem in caught.value.problems] == [("adapter", ["set adapter=none"])]


def test_four_bits_need_a_package(compose, monkeypatch):
    """Without bitsandbytes, qlora is one line with the remedy."""
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else find(name, *a)
    )
    with pytest.raises(ConfigError) as caught:
        check_config(compose("adapter=qlora"))
    (problem,) = caught.value.problems
    assert problem.key == "adapter.load_in_4bit"
    assert "bitsandbytes" in problem.text
    assert problem.hints[0] == "pip install 'hydratune[qlora]'"


@pytest.mark.parametrize(
    ("override", "key", "detail"),
    [
        ("adapter.config.r=many", "adapter.config.r", "'many'"),
        ("adapter.config.lora_alfa=3", "adapter.config.lora_alfa", "adapter.config.lora_alpha"),
    ],
)
def test_errors(compose, override, key, detail):
    """Arguments of peft are checked as any others."""
    with pytest.raises(ConfigError) as caught:
        check_config(compose("adapter=lora", override))
    (problem,) = caught.value.problems
    assert problem.key == key
    assert detail in str(problem)


def test_values_that_peft_refuses(train, toy):
    """What only peft knows to be wrong is one message too."""
    with pytest.raises(ConfigError, match="positive integer") as caught:
        train(*toy, "adapter=lora", "adapter.config.r=0")
    assert [(problem.key, problem.hints) for problem in caught.value.problems] == [("adapter.config", [])]


def test_layers_that_are_not_there(train, toy):
    """Names of layers that the network has not are one message."""
    with pytest.raises(ConfigError) as caught:
        train(*toy, "adapter=lora", "adapter.config.target_modules=[nothing]")
    (problem,) = caught.value.problems
    assert problem.key == "adapter.config"
    assert "adapter.config.target_modules=all-linear" in problem.hints[0]


def test_a_saved_adapter_is_no_checkpoint(train, toy, compose):
    """Starting from one is refused, with the option that makes it whole."""
    result = train(*toy, "adapter=lora", "trainer.args.max_steps=1")
    folder = result.directory / "model"
    with pytest.raises(ConfigError) as caught:
        check_config(compose("model=pretrained", f"model.pretrained_model_name_or_path={folder}"))
    (problem,) = caught.value.problems
    assert problem.key == "model.pretrained_model_name_or_path"
    assert repr(str(folder)) in problem.text
    assert "adapter.merge=true" in problem.hint
