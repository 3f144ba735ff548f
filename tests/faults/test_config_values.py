"""Values of a config from someone else that would reach a module, a file, or an account of the user."""

import pytest

from hydratune.cli.main import dispatch
from hydratune.cli.train import checked
from hydratune.config import allowlist
from hydratune.config.composition import Request, composer
from hydratune.config.servers import confirm_typed
from hydratune.models.adapters import Adapter
from hydratune.utils.errors import ConfigError

LORA = "adapter=lora"
# What is set -> the key of the error.
REFUSED = {
    "trainer.args.deepspeed=/etc/passwd": "trainer.args.deepspeed",
    "trainer.args.deepspeed={zero_optimization: {}}": "trainer.args.deepspeed",
    "trainer.args.fsdp=true": "trainer.args.fsdp",
    "trainer.args.fsdp_config=/etc/passwd": "trainer.args.fsdp_config",
    "trainer.args.fsdp_config={state_dict_type: SHARDED_STATE_DICT}": "trainer.args.fsdp_config",
    "trainer.args.accelerator_config=/etc/passwd": "trainer.args.accelerator_config",
    "trainer.args.resume_from_checkpoint=/etc": "trainer.args.resume_from_checkpoint",
    "trainer.args.output_dir=/etc": "trainer.args.output_dir",
    "trainer.args.logging_dir=/etc": "trainer.args.logging_dir",
    "trainer.args.optim=evil.Optimizer": "trainer.args.optim",
    "trainer.args.lr_scheduler_type=evil": "trainer.args.lr_scheduler_type",
    "trainer.args.hub_token=abc": "trainer.args.hub_token",
    "trainer.args.hub_token='${vars.mine}'": "trainer.args.hub_token",
    "trainer.args.hub_token='${oc.env:NOPE,abc}'": "trainer.args.hub_token",
    "trainer.args.hub_token='${oc.env:EMPTY}abc'": "trainer.args.hub_token",
    "trainer.args.hub_token='${oc.decode:${vars.mine}}'": "trainer.args.hub_token",
    "trainer.args.hub_model_id='${oc.env:HF_TOKEN}'": "trainer.args.hub_model_id",
    "trainer.args.hub_model_id='evil/${vars.token}'": "trainer.args.hub_model_id",
    "+trainer.args.trackio_space_id=evil/space": "trainer.args.trackio_space_id",
    "tracking.experiment_name=..": "tracking.experiment_name",
    "tracking.experiment_name=.": "tracking.experiment_name",
    "tracking.registered_model_name=../x": "tracking.registered_model_name",
    "tracking.uri=file:///etc": "tracking.uri",
    "model.pretrained_model_name_or_path=https://evil.example/x": "model.pretrained_model_name_or_path",
    "++model.trust_remote_code=true": "model.trust_remote_code",
    "+model.config.auto_map={AutoModel: evil.E}": "model.config.auto_map",
    "+model.config.text_config={attn_implementation: evil/kernel}": "model.config.text_config.attn_implementation",
    f"{LORA} +adapter.config.megatron_config={{x: 1}}": "adapter.config.megatron_config",
    f"{LORA} +adapter.config.megatron_core=antigravity": "adapter.config.megatron_core",
    f"{LORA} +adapter.config.corda_config={{cache_file: evil.pt}}": "adapter.config.corda_config",
    f"{LORA} +adapter.config.lora_ga_config={{cache_file: evil.pt}}": "adapter.config.lora_ga_config",
    f"{LORA} adapter.config._target_=peft.XLoraConfig": "adapter.config._target_",
    f"{LORA} adapter.config._target_=peft.MultitaskPromptTuningConfig": "adapter.config._target_",
    f"{LORA} adapter.config._target_=peft.ShadowConfig": "adapter.config._target_",
}
ALLOWED = [
    "trainer.args.hub_token='${oc.env:HF_TOKEN}'",
    "trainer.args.accelerator_config={split_batches: false}",
    "tracking.experiment_name=films",
    "adapter=ia3",
    "adapter=dora",
]


def keys(typed):
    """The keys of the errors of a config; a space separates overrides."""
    overrides = typed.split(" ", 1) if typed.startswith(f"{LORA} ") else [typed]
    with (
        composer(request := Request((*overrides, "+vars.mine=abc", "+vars.token=${oc.env:HF_TOKEN}"))),
        pytest.raises(ConfigError) as caught,
    ):
        checked(request)
    return [problem.key for problem in caught.value.problems]


@pytest.mark.parametrize("typed", REFUSED)
def test_value_is_refused(typed, monkeypatch):
    """It is reported when the config is checked, before anything is loaded."""
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("HF_TOKEN", "canary-0123456789")
    assert REFUSED[typed] in keys(typed)


@pytest.mark.parametrize("typed", ALLOWED)
def test_ordinary_value_is_allowed(typed, monkeypatch):
    """The same keys take what users set."""
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 20)
    with composer(request := Request((typed,))):
        checked(request)


STORES = {"tracking.uri": "tracking: {{uri: '{}'}}", "sweep.storage": "sweep: {{storage: '{}'}}"}


def with_store(folder, key, uri):
    """A request whose config file names the file of a store."""
    path = folder / "conf" / "experiment" / "theirs.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# @package _global_\n" + STORES[key].format(uri))
    return Request(("experiment=theirs",), config_dir=folder / "conf")


@pytest.mark.parametrize("key", STORES)
@pytest.mark.parametrize("path", ["/elsewhere/x.db", "x.db", "outputs/../x.db", "~/x.db"])
def test_config_file_places_no_store_elsewhere(own_directory, key, path):
    """A SQLite file would be created there, or another program's database would be changed."""
    request = with_store(own_directory, key, f"sqlite:///{path}")
    with composer(request), pytest.raises(ConfigError) as caught:
        checked(request)
    assert [problem.key for problem in caught.value.problems] == [key]


@pytest.mark.parametrize("key", STORES)
@pytest.mark.parametrize("uri", ["sqlite:///outputs/x.db", "sqlite:///multirun/a/x.db", "${oc.env:STORE}"])
def test_user_places_stores(own_directory, monkeypatch, key, uri):
    """Below the directories for results, or wherever the list of the user's stores or the command line says."""
    monkeypatch.setenv("STORE", "sqlite:////elsewhere/x.db")
    monkeypatch.setenv("HYDRATUNE_SERVERS", "sqlite:////elsewhere/x.db")
    request = with_store(own_directory, key, uri)
    with composer(request):
        checked(request)
    with composer(request := Request((f"{key}=sqlite:////elsewhere/x.db",))):
        checked(request)


@pytest.mark.parametrize("name", ["AdaLoraConfig", "IA3Config", "LoHaConfig", "LoraConfig", "OFTConfig", "VeraConfig"])
def test_reviewed_configs_of_peft_may_be_named(name):
    """A class that peft moves would drop out of the list."""
    assert allowlist.check_target(f"peft.{name}", "adapter.config._target_") is None


def test_stored_peft_config_is_checked_when_it_is_used():
    """An object that nobody has checked as a config names no module to import either."""
    from types import SimpleNamespace

    import peft

    config = peft.LoraConfig()
    config.megatron_core = "antigravity"
    with pytest.raises(ConfigError) as caught:
        Adapter(config=config).apply(SimpleNamespace())
    assert [problem.key for problem in caught.value.problems] == ["adapter.config.megatron_core"]


SECRETS = {
    "TOKEN_VALUE_TOKEN": "canary-9d1f-token",
    "DATABASE": "postgresql://me:canary-9d1f@host/db",
    "PLAIN": "ghp_" + "aB3" * 12,
}
PLACES = [
    "name={}",
    "tracking.experiment_name={}",
    "tracking.registered_model_name=x-{}",
    "dataset.labels=[a,{}]",
    "dataset.files.train='https://evil.example/{}'",
    "model.pretrained_model_name_or_path={}",
    "+vars.a={} name=\\${{vars.a}}",
    "+vars.a={} dataset.labels=[a,\\${{oc.select:vars.a}}]",
    "hydra.run.dir='outputs/{}'",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("variable", SECRETS)
def test_secret_of_the_environment_becomes_no_value(own_directory, monkeypatch, place, variable):
    """Nothing masks it in names of labels, directories, and experiments, in requests, and in models."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    typed = [text.replace("\\", "") for text in place.format(f"${{oc.env:{variable}}}").split()]
    (own_directory / "a.jsonl").write_text('{"text": "x", "label": "a"}\n')
    request = Request(("dataset=local", "dataset.files.train=a.jsonl", *typed))
    with composer(request), pytest.raises(ConfigError) as caught:
        checked(request)
    keys = {problem.key.removesuffix(".1") for problem in caught.value.problems}  # of names that follow from it, too
    assert keys & {typed[-1].partition("=")[0], "vars.a"}
    assert "canary" not in str(caught.value)
    assert SECRETS["PLAIN"] not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["tracking.uri='http://me:{}@127.0.0.1'", "+tracking.tags.a={}", "trainer.args.hub_token={}"]
)
def test_secret_of_the_environment_where_it_is_expected(monkeypatch, text):
    """These are masked wherever they are written."""
    monkeypatch.setenv("MY_SECRET", "canary-9d1f-token")
    typed = text.format("${oc.env:MY_SECRET}")
    confirm_typed([typed])
    with composer(request := Request(("dataset=digits", typed))):
        checked(request)


def test_secret_with_slashes_is_masked_before_the_name_is_split(capsys, monkeypatch, own_directory):
    """A part of it would not be found in a hint."""
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCY-CANARY"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    (own_directory / "conf" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndefaults: [{override /dataset: '${oc.env:AWS_SECRET_ACCESS_KEY}'}]\n"
    (own_directory / "conf" / "experiment" / "e.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        dispatch(["--config-dir", "conf", "experiment=e", "--dry-run"])
    said = str(caught.value) + capsys.readouterr().err
    assert not any(part in said for part in secret.split("/"))
