"""Checkpoints: what fits and what does not."""

import shutil
from typing import ClassVar

import pytest
from transformers import (
    AutoTokenizer,
    BertConfig,
    CanineConfig,
    EncoderDecoderConfig,
    Gemma3Config,
    GPT2Config,
    RobertaConfig,
    T5Config,
)

from hydratune.models import FromConfig, Pretrained
from hydratune.models.base import check_fit, max_positions, set_dropout
from hydratune.tasks.masked_lm import MaskedLm
from hydratune.utils.errors import ConfigError


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        (BertConfig(max_position_embeddings=64), 64),
        (RobertaConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (GPT2Config(n_positions=128), 128),
        (T5Config(), None),
    ],
)
def test_max_positions(config, limit, tiny_model):
    """The longest input is what the position table has rows for; relative positions have no limit."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert max_positions(config, tokenizer) == limit


def test_the_tokenizer_may_know_a_lower_limit(tiny_model):
    """A tokenizer's own limit counts where it is below the network's."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model, model_max_length=8)
    assert max_positions(BertConfig(), tokenizer) == 8


def test_a_tokenizer_of_another_network_is_refused(tiny_model, tmp_path):
    """More tokens than the network has rows for would end in `index out of range in self`."""
    folder = tmp_path / "mixed"
    shutil.copytree(tiny_model, folder)
    BertConfig(vocab_size=5).save_pretrained(folder)
    model = Pretrained(pretrained_model_name_or_path=str(folder))
    with pytest.raises(ConfigError, match=r"\b17 tokens.*\b5\b"):
        model.load_tokenizer(model.load_config())


def test_config_fields(tiny_model):
    """`model.config` changes the network's config; a field that it has not names the nearest one."""
    path = str(tiny_model)
    good = Pretrained(pretrained_model_name_or_path=path, config={"hidden_dropout_prob": 0.5})
    assert good.load_config().hidden_dropout_prob == 0.5
    bad = Pretrained(pretrained_model_name_or_path=path, config={"hiden_dropout_prob": 0.5})
    with pytest.raises(ConfigError) as caught:
        bad.load_config()
    (problem,) = caught.value.problems
    assert problem.key == "model.config.hiden_dropout_prob"
    assert "BertConfig" in problem.text
    assert problem.hint.endswith(" model.config.hidden_dropout_prob")


def test_pickled_weights_are_refused(tiny_model, tmp_path):
    """A checkpoint with only a pickle file does not load by default."""
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    model = Pretrained(pretrained_model_name_or_path=str(folder))
    config = model.load_config()
    with pytest.raises(ConfigError) as caught:
        model.load_network("AutoModelForSequenceClassification", config, {"num_labels": 2})
    (problem,) = caught.value.problems
    assert problem.key == "model.pretrained_model_name_or_path"
    assert f"cannot load {str(folder)!r}" in problem.text


def test_a_finished_model_learns_other_labels(tiny_model, tmp_path, caplog):
    """A checkpoint with a head for two labels starts a run with three: the head is new, and that is said."""
    caplog.set_level("INFO")
    folder = tmp_path / "finished"
    for path, labels in ((tiny_model, 2), (folder, 3)):
        model = Pretrained(pretrained_model_name_or_path=str(path))
        network = model.load_network(
            "AutoModelForSequenceClassification", model.load_config(), {"num_labels": labels}
        ).module
        assert network.classifier.out_features == labels
        network.save_pretrained(folder)
    assert caplog.messages[-1].endswith("newly initialized: classifier.bias, classifier.weight")


def test_another_shape_below_the_head_is_refused(tiny_model):
    """A config field that changes the shape of trained weights would throw them away silently."""
    model = Pretrained(pretrained_model_name_or_path=str(tiny_model), config={"intermediate_size": 8})
    with pytest.raises(ConfigError, match=r"bert\.encoder\..* \(32,\) .* \(8,\)") as caught:
        model.load_network("AutoModelForSequenceClassification", model.load_config(), {"num_labels": 2})
    assert caught.value.problems[0].key == "model.config"


def test_a_directory_without_a_checkpoint(tmp_path):
    """A directory that save_pretrained did not write is told at once."""
    (problem,) = Pretrained(pretrained_model_name_or_path=str(tmp_path)).check()
    assert problem.key == "pretrained_model_name_or_path"
    assert repr(str(tmp_path)) in problem.text
    assert "config.json" in problem.text


def test_padding_for_networks_without(tiny_model):
    """A tokenizer without a padding token pads with its end token, and the network is told."""
    model = Pretrained(pretrained_model_name_or_path=str(tiny_model))
    config = model.load_config()
    assert model.load_tokenizer(config).pad_token_id == config.pad_token_id == 0


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        (["embeddings"], {"bert.embeddings"}),
        (["bert.embeddings", "encoder.layer.[0-3]"], {"bert.embeddings", "bert.encoder"}),
        (["*.bias"], set()),
    ],
)
def test_frozen_weights(tiny_model, patterns, frozen, caplog):
    """Names, beginnings and patterns freeze weights, with or without the name of the network; how many is said."""
    caplog.set_level("INFO")
    model = Pretrained(pretrained_model_name_or_path=str(tiny_model), freeze=patterns)
    network = model.load_network("AutoModelForSequenceClassification", model.load_config(), {"num_labels": 2}).module
    still = {name for name, weight in network.named_parameters() if weight.requires_grad}
    assert still
    assert not [name for name in still if name.startswith(tuple(frozen))] or not frozen
    if patterns == ["*.bias"]:
        assert not [name for name in still if name.endswith("bias")]
    assert "frozen" in caplog.messages[-1]


def test_weights_that_are_not_there(tiny_model):
    """A pattern that freezes nothing names the nearest module."""
    model = Pretrained(pretrained_model_name_or_path=str(tiny_model), freeze=["embedings"])
    with pytest.raises(ConfigError) as caught:
        model.load_network("AutoModelForSequenceClassification", model.load_config(), {"num_labels": 2})
    (problem,) = caught.value.problems
    assert problem.key == "model.freeze"
    assert "'embedings'" in problem.text
    assert problem.hint.endswith(" embeddings")


def test_frozen_weights_do_not_change(train, toy, tiny_model):
    """After training they are those of the checkpoint; the others are not."""
    from safetensors.torch import load_file

    result = train(*toy, "model.freeze=[embeddings]", "trainer.args.warmup_steps=0")
    before, after = (
        load_file(tiny_model / "model.safetensors"),
        load_file(result.directory / "model" / "model.safetensors"),
    )
    same = {name: bool((before[name] == after[f"bert.{name}"]).all()) for name in before if f"bert.{name}" in after}
    assert all(value for name, value in same.items() if name.startswith("embeddings"))
    assert not any(value for name, value in same.items() if name.endswith("attention.self.value.weight"))


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        (BertConfig(), ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"]),
        (GPT2Config(), ["resid_pdrop", "embd_pdrop", "attn_pdrop"]),
        (T5Config(), ["dropout_rate"]),
    ],
)
def test_dropout(config, fields):
    """One number sets every dropout probability that a kind of network has."""
    set_dropout(config, 0.25)
    assert {getattr(config, name) for name in fields} == {0.25}


@pytest.mark.parametrize(
    ("tokens", "rows", "fits"),
    [
        (32100, 32128, True),
        (151_665, 152_064, True),
        (50_295, 51_200, True),
        (100_015, 102_400, True),
        (28_996, 30_522, False),
        (30_522, 50_265, False),
        (17, 119_547, False),
    ],
)
def test_how_many_tokens_fit(tokens, rows, fits):
    """T5, Qwen, Phi and DeepSeek round their rows up; cased BERT's tokenizer is not uncased BERT's."""

    class Tokenizer:
        pad_token_id = 0
        chat_template = None
        added_tokens_decoder: ClassVar = {}
        SPECIAL_TOKENS_ATTRIBUTES: ClassVar = []

        def __len__(self):
            return tokens

    config = BertConfig(vocab_size=rows, pad_token_id=0)
    if fits:
        check_fit(Tokenizer(), config, "model")
    else:
        with pytest.raises(ConfigError) as caught:
            check_fit(Tokenizer(), config, "model")
        assert [problem.key for problem in caught.value.problems] == ["model"]


@pytest.mark.parametrize(("options", "fits"), [({}, True), ({"pad_token": "<new>"}, False)])
def test_a_token_more_than_rows(tiny_model, options, fits):
    """Gemma 3's small networks have no row for their tokenizer's image token; a token that is written needs one."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_special_tokens(options or {"extra_special_tokens": ["<image>"]})
    assert len(tokenizer) == 18
    if fits:
        check_fit(tokenizer, GPT2Config(vocab_size=17), "model")
    else:
        with pytest.raises(ConfigError, match=r"\b18 tokens.*\b17\b"):
            check_fit(tokenizer, GPT2Config(vocab_size=17), "model")


def test_another_padding(tiny_model):
    """It shifts RoBERTa's positions and is refused; BERT takes the tokenizer's, as multilingual E5 needs."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    with pytest.raises(ConfigError, match=r"tokenizer pads .*\b0\b.* model .*\b1\b"):
        check_fit(tokenizer, RobertaConfig(vocab_size=17, pad_token_id=1), "model")
    (note,) = check_fit(tokenizer, BertConfig(vocab_size=17, pad_token_id=1), "model")
    assert note == "pads with 0, as the tokenizer does; its config said 1"


def test_networks_of_several_parts(tiny_model):
    """Their vocabulary, positions and dropout are those of their parts; CANINE, which has no vocabulary, fits any."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    side = BertConfig(vocab_size=17, max_position_embeddings=64)
    both = EncoderDecoderConfig.from_encoder_decoder_configs(side, side)
    check_fit(tokenizer, both, "model")
    check_fit(tokenizer, CanineConfig(), "model")
    assert max_positions(both, tokenizer) == 64
    set_dropout(both, 0.25)
    assert both.encoder.hidden_dropout_prob == both.decoder.hidden_dropout_prob == 0.25
    many = Gemma3Config()
    many.text_config.max_position_embeddings = 64
    assert max_positions(many, tokenizer) == 64
    with pytest.raises(ConfigError, match=r"\b17 tokens.*\b262,208\b"):
        check_fit(tokenizer, many, "model")


def test_attention_that_is_not_there(tiny_model):
    """A kernel that is not installed is one message."""
    model = Pretrained(pretrained_model_name_or_path=str(tiny_model), attn_implementation="flash_attention_2")
    with pytest.raises(ConfigError, match="flash_attention_2") as caught:
        model.load_network("AutoModelForSequenceClassification", model.load_config(), {"num_labels": 2})
    (problem,) = caught.value.problems
    assert problem.key == "model.attn_implementation"
    assert problem.hints == ["set model.attn_implementation=null"]


def test_the_type_of_weights(tiny_model, tmp_path):
    """`dtype` is that of the weights; `auto` is that of the checkpoint, and the default is float32 whatever that is."""
    import torch

    def load(path, **options):
        model = Pretrained(pretrained_model_name_or_path=str(path), **options)
        return model.load_network("AutoModelForMaskedLM", model.load_config(), {}).module

    half = load(tiny_model, dtype="bfloat16")
    half.save_pretrained(tmp_path / "half")
    kinds = {"bfloat16": half, "auto": load(tmp_path / "half", dtype="auto"), "default": load(tmp_path / "half")}
    found = {kind: {weight.dtype for weight in network.parameters()} for kind, network in kinds.items()}
    assert found == {"bfloat16": {torch.bfloat16}, "auto": {torch.bfloat16}, "default": {torch.float32}}


@pytest.mark.parametrize(
    ("options", "key", "value", "suggestion"),
    [
        ({"model_type": "gpt22"}, "model.model_type", "'gpt22'", "model.model_type=gpt2"),
        (
            {"model_type": "gpt2", "config": {"n_layr": 1}},
            "model.config.n_layr",
            "GPT2Config has no field 'n_layr'",
            "model.config.n_layer",
        ),
        ({"model_type": "gpt2", "config": {"n_layer": "many"}}, "model.config", "many", ""),
    ],
)
def test_a_network_from_scratch_tells_its_errors(options, key, value, suggestion):
    """Unknown kinds and fields name the nearest."""
    with pytest.raises(ConfigError) as caught:
        FromConfig(tokenizer="bytes", **options).load_config()
    (problem,) = caught.value.problems
    assert problem.key == key
    assert value in problem.text
    assert " ".join(problem.hints).endswith(suggestion)
    assert bool(problem.hint) == bool(suggestion)


def test_an_image_processor_tells_its_errors():
    """An argument that the processor would keep and never use names the nearest."""
    model = FromConfig(model_type="vit", image_processor={"sise": {"height": 8, "width": 8}})
    with pytest.raises(ConfigError) as caught:
        model.load_processor("image_processor", model.load_config())
    (problem,) = caught.value.problems
    assert problem.key == "model.image_processor.sise"
    assert problem.hint.endswith(" model.image_processor.size")


def test_a_network_from_scratch_takes_its_tokenizer(tiny_model):
    """The vocabulary is as large as the tokenizer's, and the special tokens are its own."""
    model = FromConfig(
        model_type="bert", tokenizer=str(tiny_model), config={"hidden_size": 16, "num_attention_heads": 2}
    )
    config = model.load_config()
    tokenizer = model.load_processor("tokenizer", config)
    assert (config.vocab_size, config.pad_token_id) == (len(tokenizer), tokenizer.pad_token_id)


def test_a_task_needs_a_head_that_the_network_has():
    """A kind of network without the head is told before anything is loaded."""
    with pytest.raises(ConfigError, match=r"\bAutoModelForMaskedLM\b.*\bgpt2\b") as caught:
        MaskedLm().check_network(GPT2Config())
    (problem,) = caught.value.problems
    assert problem.key == "model"
    assert "task=causal_lm" in problem.hint
