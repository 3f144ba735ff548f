"""Learning rates and weight decay by parameter group, and the layers that they decay over."""

from types import SimpleNamespace

import pytest
import torch
import transformers
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import Seq2SeqTrainingArguments, default_data_collator, get_scheduler, set_seed

from hydratune.config.optimization import NEUTRAL
from hydratune.training.trainer.layers import find_stacks, layer_distances
from hydratune.training.trainer.parameter_groups import check_parameter_groups
from hydratune.training.trainer.trainer import Trainer
from hydratune.utils.errors import ConfigError

SIZES = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
IDS = {"input_ids": torch.tensor([[3, 4, 5, 6]])}
BOTH = {**IDS, "decoder_input_ids": IDS["input_ids"]}
PIXELS = {"pixel_values": torch.zeros(1, 3, 8, 8)}


def bert(**config):
    """A classifier of two layers without dropout."""
    sizes = {"vocab_size": 9, "num_hidden_layers": 2, **SIZES, **STILL, **config}
    return transformers.BertForSequenceClassification(transformers.BertConfig(**sizes))


def lora():
    """The same classifier with an adapter."""
    config = LoraConfig(target_modules=["query"], modules_to_save=["classifier"], r=2)
    return get_peft_model(bert(), config)


def model(name, **config):
    """A model of transformers with random weights, e.g. `GPT2ForSequenceClassification`."""
    base = name.partition("For")[0].partition("LMHead")[0]
    return getattr(transformers, name)(getattr(transformers, f"{base}Config")(**config))


def gpt():
    """GPT-2, whose output layer is tied to its embeddings."""
    return model("GPT2LMHeadModel", n_layer=2, n_embd=8, n_head=2, vocab_size=9, bos_token_id=1, eos_token_id=1)


def t5():
    """T5 with more layers in the encoder than in the decoder."""
    sizes = {"d_model": 8, "d_kv": 4, "num_heads": 2, "d_ff": 8, "vocab_size": 9}
    return model("T5ForConditionalGeneration", num_layers=3, num_decoder_layers=2, **sizes)


def deberta():
    """DeBERTa, which defines its relative embeddings after its layers, and a convolution between two layers."""
    options = {"relative_attention": True, "norm_rel_ebd": "layer_norm", "conv_kernel_size": 3}
    sizes = {"vocab_size": 9, "num_hidden_layers": 2, "pos_att_type": ["c2p"]}
    return model("DebertaV2ForSequenceClassification", **sizes, **options, **SIZES)


def opt():
    """OPT, which defines its last norm and both projections before its layers."""
    sizes = {"hidden_size": 8, "ffn_dim": 8, "num_attention_heads": 2, "vocab_size": 9, "num_hidden_layers": 2}
    tokens = {"bos_token_id": 1, "eos_token_id": 1}
    return model("OPTForCausalLM", word_embed_proj_dim=4, do_layer_norm_before=True, **sizes, **tokens)


def vit():
    """A vision transformer."""
    return model("ViTForImageClassification", num_hidden_layers=2, image_size=8, patch_size=4, **SIZES)


@pytest.mark.parametrize(
    ("make", "inputs", "expected"),
    [
        (bert, IDS, {"embeddings.": 3, "layer.0.": 2, "layer.1.": 1, "pooler": 0, "classifier": 0}),
        (lora, IDS, {"layer.0.attention.self.query.lora_A": 2, "layer.1.": 1, "classifier.modules_to_save": 0}),
        (gpt, IDS, {"wte": 3, "wpe": 3, "h.0.": 2, "h.1.": 1, "ln_f": 0}),
        (vit, PIXELS, {"embeddings.cls_token": 3, "layers.0.": 2, "layers.1.": 1, "classifier": 0}),
        (
            t5,
            BOTH,
            {"shared": 4, "encoder.block.0.": 3, "encoder.block.2.": 1, "decoder.block.0.": 2, "decoder.block.1.": 1},
        ),
        (deberta, IDS, {"rel_embeddings": 3, "encoder.LayerNorm": 3, "encoder.conv": 2, "layer.1.": 1, "pooler": 0}),
        (opt, IDS, {"embed_": 3, "project_in": 3, "layers.0.": 2, "project_out": 0, "decoder.final_layer_norm": 0}),
    ],
)
def test_layer_distances_follow_the_order_of_execution(make, inputs, expected):
    """Embeddings have the largest distance, and parameters after the last layer have none."""
    network = make().eval()
    distances = layer_distances(network, lambda: network(**inputs))
    for part, distance in expected.items():
        assert {value for name, value in distances.items() if part in name} == {distance}, part


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("AlbertForSequenceClassification", {"num_hidden_layers": 3, "embedding_size": 4, "vocab_size": 9, **SIZES}),
        ("ResNetForImageClassification", {"depths": [1, 1], "hidden_sizes": [4, 4], "embedding_size": 4}),
    ],
)
def test_find_stacks_refuses_models_without_layers(name, config):
    """ALBERT repeats one layer, and a ResNet has stages; a guess would train with other rates."""
    with pytest.raises(ConfigError) as caught:
        find_stacks(model(name, **config))
    assert [problem.key for problem in caught.value.problems] == ["trainer.layer_decay"]


# --- training --------------------------------------------------------------------------------------------

ROWS = Dataset.from_dict({"input_ids": [[3, 4, i % 5] for i in range(12)], "labels": [i % 2 for i in range(12)]})
ARGS = {"learning_rate": 0.01, "weight_decay": 0.1, "max_grad_norm": 0, "num_train_epochs": 2, "use_cpu": True}
SETTINGS = {
    "layer_decay": 0.5,
    "head_lr_multiplier": 10,
    "groups": {"embeddings": {"lr_multiplier": 3, "weight_decay": 0.4}, "encoder.layer.1": 0.2},
}


def trainer(folder, **settings):
    """A Trainer of six steps of four rows in a fixed order."""
    set_seed(1)
    order = {"train_sampling_strategy": "sequential", "per_device_train_batch_size": 4, "logging_steps": 1}
    args = Seq2SeqTrainingArguments(str(folder), report_to="none", optim="adamw_torch", **ARGS, **order)
    return Trainer(model=bert(), args=args, train_dataset=ROWS, data_collator=default_data_collator, **settings)


def expected_group(name):
    """The multiplier and the weight decay that `SETTINGS` give to a parameter."""
    decays = name.endswith("weight") and "LayerNorm" not in name
    if ".embeddings." in name:
        return 0.5**3 * 3, 0.4 * decays
    if "classifier" in name:
        return 10.0, 0.1 * decays
    distance = 2 if "layer.0" in name else 1 if "layer.1" in name else 0
    return 0.5**distance * (0.2 if "layer.1" in name else 1), 0.1 * decays


def test_parameter_groups_train_as_a_plain_loop(tmp_path):
    """The weights after six steps are those of AdamW with one group per parameter."""
    ours = trainer(tmp_path, **SETTINGS)
    ours.train()
    set_seed(1)
    plain = bert()
    groups = []
    for name, parameter in plain.named_parameters():
        multiplier, weight_decay = expected_group(name)
        groups.append({"params": [parameter], "lr": 0.01 * multiplier, "weight_decay": weight_decay})
    optimizer = torch.optim.AdamW(groups)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=6)
    plain.train()
    for step in range(6):
        rows = [ROWS[i] for i in range(4 * step % 12, 4 * step % 12 + 4)]
        plain(**default_data_collator(rows)).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    for (name, weight), expected in zip(ours.model.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(weight, expected, atol=1e-6, rtol=0), name


def test_learning_rate_in_the_log_has_no_multiplier(tmp_path):
    """It follows the schedule from `learning_rate`, whatever the first group's multiplier is."""
    ours = trainer(tmp_path, **SETTINGS)
    ours.train()
    rates = [entry["learning_rate"] for entry in ours.state.log_history if "learning_rate" in entry]
    assert rates == pytest.approx([0.01 * (6 - step) / 6 for step in range(6)])


def test_groups_are_assigned_without_changing_random_numbers(tmp_path):
    """The order of layers is read from one forward pass, which leaves the generators and the mode as they were."""
    ours = trainer(tmp_path, layer_decay=0.9)
    before, mode = torch.get_rng_state(), ours.model.training
    ours.assign_parameter_groups()
    assert torch.equal(torch.get_rng_state(), before)
    assert ours.model.training == mode


# --- checks ----------------------------------------------------------------------------------------------


def keys(settings, network=None, **args):
    """Keys of the errors of settings for a model."""
    try:
        values = {"optim": "adamw_torch", "optim_args": None, "learning_rate": 1, "adam_beta1": 0.9, "adam_beta2": 0.9}
        arguments = SimpleNamespace(**{**values, "adam_epsilon": 1e-8, "optim_target_modules": None, **args})
        check_parameter_groups(settings, arguments, network or bert())
    except ConfigError as error:
        return [problem.key for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (NEUTRAL, []),
        (SETTINGS, []),
        ({"groups": {"embeding": 0.1}}, ["trainer.groups.embeding"]),
        ({"groups": {"encoder": 0.1, "encoder.layer.0": 0.2}}, ["trainer.groups.encoder.layer.0"]),
    ],
)
def test_check_parameter_groups_compares_patterns(settings, expected):
    """Each pattern selects parameters, and no parameter belongs to two groups."""
    assert keys(settings) == expected


def test_check_parameter_groups_refuses_frozen_groups():
    """A rate for parameters that do not train has no effect."""
    assert keys({"groups": {"encoder.layer.0.output": 0.1}}, lora()) == ["trainer.groups.encoder.layer.0.output"]


def test_check_parameter_groups_refuses_missing_head():
    """T5 has no parameters outside of its base model."""
    assert keys({"head_lr_multiplier": 2}, t5()) == ["trainer.head_lr_multiplier"]


def test_check_parameter_groups_refuses_optimizers_with_own_groups(monkeypatch):
    """GaLore divides the parameters itself, so that multipliers would be lost."""
    own_groups = (torch.optim.AdamW, {"params": []})
    monkeypatch.setattr(transformers.Trainer, "get_optimizer_cls_and_kwargs", lambda *_: own_groups)
    assert keys({"layer_decay": 0.9}) == ["trainer.args.optim"]
