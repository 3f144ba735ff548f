"""`model.config` takes fields of the model's config class, and nothing that says where or how it is loaded."""

import pytest
from transformers import CONFIG_MAPPING

from hydratune.models import FromConfig, Pretrained, code_guard
from hydratune.models.base import check_fields
from hydratune.utils.errors import ConfigError

LOADING = [
    *("cache_dir", "code_revision", "force_download", "gguf_file", "local_files_only", "mirror", "name_or_path"),
    *("pretrained_model_name_or_path", "proxies", "resume_download", "return_unused_kwargs", "revision", "subfolder"),
    *("token", "trust_remote_code", "use_auth_token", "user_agent", "_commit_hash", "_from_auto"),
]


@pytest.mark.parametrize("name", LOADING)
def test_loading_option_is_no_field(name, tiny_model):
    """Neither at the top, nested, when the config is checked, nor when it is loaded."""
    assert [problem.key for problem in code_guard.fields({name: {"https": "x"}})] == [f"config.{name}"]
    assert [problem.key for problem in code_guard.fields({"a": {"b": {name: 1}}})] == [f"config.a.b.{name}"]
    models = (
        FromConfig(model_type="gpt2", tokenizer="bytes", config={name: "x"}),
        Pretrained(pretrained_model_name_or_path=str(tiny_model), config={name: "x"}),
    )
    for model in models:
        with pytest.raises(ConfigError) as caught:
            model.load_config()
        assert [problem.key for problem in caught.value.problems] == [f"model.config.{name}"]


@pytest.mark.parametrize(
    "name", ["save_pretrained", "sub_configs", "attribute_map", "to_dict", "__class__", "self", "3"]
)
def test_attribute_that_is_no_field_is_an_error(name):
    """The control is a field of the class, an alias, and a field of every config."""
    config = CONFIG_MAPPING["gpt2"]()
    with pytest.raises(ConfigError):
        check_fields(config, {name: 1})
    check_fields(config, {"n_layer": 1, "hidden_size": 2, "num_labels": 3, "id2label": {0: "token"}})


def test_field_of_a_config_inside_is_checked():
    """A composite model has a config for each part."""
    config = CONFIG_MAPPING["clip"]()
    check_fields(config, {"text_config": {"hidden_size": 8}})
    with pytest.raises(ConfigError) as caught:
        check_fields(config, {"text_config": {"hiden_size": 8}})
    assert [problem.key for problem in caught.value.problems] == ["model.config.text_config.hiden_size"]


def test_labels_may_have_the_names_of_options():
    """The names of labels are data."""
    assert not [*code_guard.fields({"label2id": {"token": 0, "revision": 1}})]
