"""Checkpoints: what fits and what does not."""

import shutil

import pytest
from transformers import AutoTokenizer, BertConfig, GPT2Config, RobertaConfig, T5Config

from hydratune.errors import ConfigError
from hydratune.models import Pretrained
from hydratune.models.base import max_positions


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
    with pytest.raises(ConfigError, match="got a tokenizer of 17 tokens and a network of 5"):
        model.load_tokenizer(model.load_config())


def test_config_fields(tiny_model):
    """`model.config` changes the network's config; a field that it has not names the nearest one."""
    path = str(tiny_model)
    good = Pretrained(pretrained_model_name_or_path=path, config={"hidden_dropout_prob": 0.5})
    assert good.load_config().hidden_dropout_prob == 0.5
    bad = Pretrained(pretrained_model_name_or_path=path, config={"hiden_dropout_prob": 0.5})
    with pytest.raises(ConfigError) as caught:
        bad.load_config()
    assert str(caught.value) == (
        "model.config.hiden_dropout_prob: expected a field of BertConfig, got 'hiden_dropout_prob'. "
        "Did you mean hidden_dropout_prob?"
    )


def test_pickled_weights_are_refused(tiny_model, tmp_path):
    """A checkpoint with only a pickle file does not load by default."""
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    model = Pretrained(pretrained_model_name_or_path=str(folder))
    config = model.load_config()
    with pytest.raises(ConfigError, match=r"^model\.pretrained_model_name_or_path: expected to load"):
        model.load_network("AutoModelForSequenceClassification", config, {"num_labels": 2})


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
    assert caplog.messages[-1].endswith("new and untrained: classifier.bias, classifier.weight")


def test_another_shape_below_the_head_is_refused(tiny_model):
    """A config field that changes the shape of trained weights would throw them away silently."""
    model = Pretrained(pretrained_model_name_or_path=str(tiny_model), config={"intermediate_size": 8})
    with pytest.raises(ConfigError, match=r"^model\.config: expected weights of shape \(8,\), got bert\.encoder"):
        model.load_network("AutoModelForSequenceClassification", model.load_config(), {"num_labels": 2})


def test_a_directory_without_a_checkpoint(tmp_path):
    """A directory that save_pretrained did not write is told at once."""
    (mistake,) = Pretrained(pretrained_model_name_or_path=str(tmp_path)).check()
    assert "which has no config.json" in str(mistake)


def test_padding_for_networks_without(tiny_model):
    """A tokenizer without a padding token pads with its end token, and the network is told."""
    model = Pretrained(pretrained_model_name_or_path=str(tiny_model))
    config = model.load_config()
    assert model.load_tokenizer(config).pad_token_id == config.pad_token_id == 0
