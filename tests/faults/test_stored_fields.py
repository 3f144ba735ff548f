"""Fields of files from someone else that name other files: studies, states of the Trainer, checkpoints, adapters."""

import contextlib
import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from fake_sweep import SPACE, fake, fake_study
from hydratune.cli.main import dispatch
from hydratune.config import user_settings
from hydratune.config.composition import without_hydra
from hydratune.config.instantiate import build
from hydratune.config.validate import check_targets
from hydratune.models import adapters
from hydratune.training.trainer import checkpoint_files
from hydratune.training.trainer.checkpoint_files import MANIFEST, commit
from hydratune.utils import hub
from hydratune.utils.checkpoint_references import foreign_files
from hydratune.utils.errors import ConfigError
from stored_checkpoints import manifest, state_text


def edit(path, **changes):
    """Change fields of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def private(own_directory):
    """A directory of the user, outside the files of someone else."""
    folder = own_directory.parent / "private"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "mine").touch()
    (folder / "words.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nsecret\n")
    return folder


# --- studies -----------------------------------------------------------------------------------------------

FOLDERS = [
    "../../../private",
    "{private}",
    "../../outputs/run",
    "..",
    ".",
    "",
    "0/../../x",
    "./0",
    "a",
    "٣",
    "-1",
    ["0"],
]


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_of_a_trial_is_a_number(private, folder):
    """A study from someone else has no other directory read, written, or removed."""
    text = folder.format(private=private) if isinstance(folder, str) else folder
    study = fake_study(["dataset=digits", "hydra.sweep.dir=multirun/x", *SPACE], fake(1e-3, 0, 0.5, folder=text))
    (trial,) = study.trials()
    for use in (lambda: study.directory(trial), lambda: dispatch(["sweep", "report", "multirun/x"])):
        with pytest.raises(ConfigError) as caught:
            use()
        assert [problem.key for problem in caught.value.problems] == ["SWEEP"]


def test_folder_of_an_earlier_trial(own_directory):
    """Positive control: a trial that takes the place of another one has its folder."""
    study = fake_study(["dataset=digits", "hydra.sweep.dir=multirun/x", *SPACE], fake(1e-3, 0, 0.5, folder="3"))
    assert study.directory(study.trials()[0]) == own_directory / "multirun" / "x" / "3"


CHANGES = [
    "UPDATE trial_user_attributes SET value_json = '[1]' WHERE key = 'seconds'",
    "UPDATE trial_user_attributes SET value_json = 'null' WHERE key = 'seconds'",
    "UPDATE trial_user_attributes SET value_json = '\"x\"' WHERE key = 'owner'",
    "UPDATE trial_user_attributes SET value_json = '{\"a\": \"b\"}' WHERE key = 'owner'",
    "UPDATE trial_user_attributes SET value_json = '[1]' WHERE key = 'values'",
    "UPDATE trial_user_attributes SET value_json = '{\"a\": 1}' WHERE key = 'values'",
    "UPDATE trial_user_attributes SET value_json = 'not json' WHERE key = 'error'",
    "UPDATE trial_user_attributes SET value_json = '{}' WHERE key = 'error'",
    "UPDATE study_user_attributes SET value_json = '[]'",
    "UPDATE study_user_attributes SET key = 'hydratune.parent', value_json = '{\"hydratune.process\": 5}'",
    "UPDATE study_user_attributes SET key = 'hydratune.parent', value_json = '{\"hydratune.host\": \"x\"}'",
    "UPDATE trial_params SET distribution_json = '{}'",
    """UPDATE trial_params SET distribution_json = '{"name": "os.system", "attributes": {}}'""",
    "UPDATE trials SET state = 'STRANGE'",
    "UPDATE trial_values SET value = NULL",
    "UPDATE trial_values SET value = 'PRUNED'",
    "UPDATE trial_user_attributes SET value_json = '1e30' WHERE key = 'progress'",
    "UPDATE trial_params SET param_name = param_name || 'x'",
    "DROP TABLE trial_values",
]


@pytest.mark.parametrize("change", ["", *CHANGES])
def test_study_of_another_form_is_one_error(own_directory, change):
    """Whatever was changed in its database; without a change, the report is written."""
    attributes = {"seconds": 1, "owner": None, "values": {"eval_accuracy": [0.5]}, "error": "", "progress": 0.5}
    fake_study(["dataset=digits", "hydra.sweep.dir=multirun/x", *SPACE], fake(1e-3, 0, 0.5, **attributes))
    with closing(sqlite3.connect(own_directory / "multirun" / "x" / "study.db")) as connection, connection:
        connection.execute(change)
    if not change:
        assert dispatch(["sweep", "report", "multirun/x"]) == 0
        return
    with pytest.raises(ConfigError) as caught:
        dispatch(["sweep", "report", "multirun/x"])
    assert [problem.key for problem in caught.value.problems] == ["SWEEP"]


@pytest.mark.parametrize("name", ["report", "0", "study.db-journal"])
def test_report_of_a_sweep_follows_no_link(private, name):
    """What a report writes stays in the directory of the sweep."""
    fake_study(["dataset=digits", "hydra.sweep.dir=multirun/x", *SPACE], fake(1e-3, 0, 0.5))
    Path("multirun/x", name).symlink_to(private)
    before = sorted(private.rglob("*"))
    with pytest.raises(ConfigError) as caught:
        dispatch(["sweep", "report", "multirun/x"])
    assert [problem.key for problem in caught.value.problems] == ["RUN"]
    assert sorted(private.rglob("*")) == before


# --- states of the Trainer ---------------------------------------------------------------------------------

STEPS = ["trainer.args.max_steps=4", "trainer.args.save_strategy=steps", "trainer.args.eval_strategy=steps",
         "trainer.args.save_steps=2", "trainer.args.eval_steps=2", "trainer.args.learning_rate=0",
         "trainer.args.save_total_limit=null"]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"best_global_step": None, "best_model_checkpoint": "{private}"},
        {"best_global_step": 0, "best_model_checkpoint": "../../private"},
        {"best_global_step": "../../../private", "best_model_checkpoint": "{private}"},
        {
            "best_model_checkpoint": "{private}",
            "stateful_callbacks": {"os.system": {"args": {"command": "touch canary"}}},
        },
        {"log_history": [{"step": 1, "loss": "${oc.env:HOME}", "../x": 1}]},
    ],
)
def test_state_of_someone_else_names_no_files(train, toy, own_directory, private, changes):
    """Resuming reads the best weights from the run's own checkpoints only; without them the run goes on."""
    train(*toy, *STEPS)
    (own_directory / "run" / "metrics.json").unlink()
    last = own_directory / "run" / "checkpoints" / "checkpoint-4"
    told = {name: v.format(private=private) if isinstance(v, str) else v for name, v in changes.items()}
    callbacks = json.loads((last / "trainer_state.json").read_text())["stateful_callbacks"]
    told["stateful_callbacks"] = {**callbacks, **changes.get("stateful_callbacks", {})}
    edit(last / "trainer_state.json", best_metric=99.0, **told)
    stored = checkpoint_files.read(last)
    (last / MANIFEST).unlink()
    commit(last.rename(own_directory / "again"), last, stored)
    train(*toy, *STEPS, "trainer.args.max_steps=6")
    state = json.loads((last.with_name("checkpoint-6") / "trainer_state.json").read_text())
    assert Path(state["best_model_checkpoint"] or last).parent.resolve() == last.parent
    assert not (own_directory / "canary").exists()


# --- checkpoints -------------------------------------------------------------------------------------------


@pytest.fixture
def copied(tiny_model, own_directory):
    """A checkpoint from someone else."""
    return Path(shutil.copytree(tiny_model, own_directory / "theirs"))


def sharded(folder, place):
    """Replace the weights of a checkpoint by an index that names a file."""
    (folder / "model.safetensors").rename(folder.parent / "private.safetensors")
    with safe_open(folder.parent / "private.safetensors", "pt") as file:
        names = dict.fromkeys(file.keys(), str(place))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


SHARDS = ["../private.safetensors", "{parent}/private.safetensors", "./../private.safetensors", "x/../../private.safetensors"]  # fmt: skip
FIELDS = [
    ("tokenizer_config.json", {"vocab": "{private}/words.txt"}),
    ("tokenizer_config.json", {"vocab_file": "{private}/words.txt"}),
    ("tokenizer_config.json", {"merges_file": "../private/words.txt"}),
    ("tokenizer_config.json", {"init_kwargs": {"spm_file": "{private}/words.txt"}}),
    ("config.json", {"backbone_config": {"checkpoint_path": "{private}/words.txt"}}),
    ("config.json", {"attn_implementation": "me/evil"}),
    ("config.json", {"_attn_implementation": {"": "me/evil"}}),
    ("config.json", {"text_config": {"_attn_implementation": "me/evil@main:f"}}),
    ("config.json", {"_experts_implementation": "me/evil"}),
    ("preprocessor_config.json", {"image_processor": {"file": "{private}/words.txt"}}),
    ("preprocessor_config.json", {"tesseract_config": "-c debug_file=canary"}),
    ("config.json", {"model_args": {"checkpoint_path": "theirs/pickle.pth"}}),
    ("tokenizer_config.json", {"mecab_kwargs": {"mecab_option": "-r words.txt"}}),
]


@pytest.mark.parametrize("shard", SHARDS)
def test_shards_outside_a_checkpoint_are_refused(copied, compose, shard):
    """The weights of another model of the user are not read."""
    sharded(copied, shard.format(parent=copied.parent))
    cfg = without_hydra(compose("model=pretrained", f"model.pretrained_model_name_or_path={copied}"))
    with pytest.raises(ConfigError) as caught:
        build(cfg.model).load_config()
    assert [problem.key for problem in caught.value.problems] == ["model.pretrained_model_name_or_path"]


def test_shards_outside_a_checkpoint_would_be_read(copied):
    """Positive control: transformers follows the index."""
    from transformers import AutoModel

    sharded(copied, "../private.safetensors")
    _, loaded = AutoModel.from_pretrained(copied, use_safetensors=True, output_loading_info=True)
    assert not loaded["missing_keys"]


@pytest.mark.parametrize(("name", "fields"), FIELDS)
def test_fields_that_name_files_or_kernels_are_refused(copied, private, name, fields):
    """Whatever the field is called, and however deep it is."""
    if not (copied / name).exists():
        (copied / name).write_text("{}")
    edit(copied / name, **json.loads(json.dumps(fields).replace("{private}", str(private))))
    assert len([*foreign_files(copied)]) == 1
    with pytest.raises(ConfigError), hub.loading_checkpoint("model", str(copied)):
        pytest.fail("the files are read only after the check")


def test_vocabulary_elsewhere_would_be_read(copied, private):
    """Positive control: transformers opens the file that the field names."""
    from transformers import AutoTokenizer

    (copied / "tokenizer.json").unlink()
    edit(copied / "tokenizer_config.json", vocab=str(private / "words.txt"), tokenizer_class="BertTokenizer")
    assert "secret" in AutoTokenizer.from_pretrained(copied).get_vocab()


LINKS = ["vocab.txt", "tokenizer.json", "config.json", "model.safetensors", "chat_template.jinja", "more/words", "more"]


@pytest.mark.parametrize("name", LINKS)
def test_links_out_of_a_checkpoint_are_refused(copied, private, compose, name):
    """The words of a private file would become the vocabulary of a model that is published."""
    (copied / name).unlink(missing_ok=True)
    (copied / name).parent.mkdir(exist_ok=True)
    (copied / name).symlink_to(private if name == "more" else private / "words.txt")
    cfg = without_hydra(compose("model=pretrained"))
    cfg.model.pretrained_model_name_or_path = str(copied)
    for load in (lambda: build(cfg.model).load_config(), lambda: adapters.load(copied)):
        with pytest.raises(ConfigError) as caught:
            load()
        assert caught.value.problems[0].key in ("model.pretrained_model_name_or_path", "adapter")


def test_links_out_of_a_checkpoint_would_be_read(copied, private):
    """Positive control: transformers follows them."""
    from transformers import AutoTokenizer

    (copied / "tokenizer.json").unlink()
    (copied / "vocab.txt").symlink_to(private / "words.txt")
    edit(copied / "tokenizer_config.json", tokenizer_class="BertTokenizer")
    assert "secret" in AutoTokenizer.from_pretrained(copied).get_vocab()


@pytest.mark.parametrize("text", ["", "[]", "null", "3", '"x"', "{", "[" * 100_000], ids=range(7))
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_malformed_json_of_a_checkpoint_is_one_error(copied, name, text):
    """Transformers would raise errors of many kinds, such as AttributeError."""
    (copied / name).write_text(text)
    with pytest.raises(ConfigError) as caught, hub.loading_checkpoint("model", str(copied)):
        pytest.fail("it was loaded")
    assert [problem.key for problem in caught.value.problems] == ["model"]
    assert name in str(caught.value)


def test_links_inside_a_checkpoint_are_accepted(copied, own_directory):
    """In a directory, and in a repository of the Hub's cache that is named by its path."""
    (copied / "more").mkdir()
    (copied / "more" / "config.json").symlink_to("../config.json")
    hub.check_checkpoint("model", str(copied))
    snapshot = own_directory / "models--me--x" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    shutil.copytree(copied, snapshot.parents[1] / "blobs")
    (snapshot / "config.json").symlink_to("../../blobs/config.json")
    hub.check_checkpoint("model", str(snapshot))


@pytest.mark.parametrize("name", ["_name_or_path", "name_or_path", "tokenizer_file", "special_tokens_map_file"])
def test_fields_that_transformers_ignores_are_accepted(copied, private, name):
    """Many checkpoints of the Hub have paths of their author there."""
    edit(copied / "tokenizer_config.json", **{name: str(private / "words.txt")})
    assert [*foreign_files(copied)] == []


def test_files_of_the_cache_are_checked(copied, own_directory, monkeypatch):
    """A repository of the Hub is checked once it is in the cache, whose files are links to other directories."""
    monkeypatch.setenv("HF_HUB_CACHE", str(own_directory / "hub"))
    snapshot = own_directory / "hub" / "models--me--x" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    for path in copied.iterdir():
        (snapshot / path.name).symlink_to(path)
    hub.check_checkpoint("model", "me/x")
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../x.safetensors"}}))
    with pytest.raises(ConfigError):
        hub.check_checkpoint("model", "me/x")


@pytest.mark.parametrize("is_evil", [False, True])
def test_repository_is_checked_before_it_is_loaded(copied, own_directory, monkeypatch, is_evil):
    """Its JSON files are downloaded first."""
    monkeypatch.setenv("HF_HUB_CACHE", str(own_directory / "hub"))
    snapshot, loaded = own_directory / "hub" / "models--me--x" / "snapshots" / "1", []
    if is_evil:
        (copied / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../x.safetensors"}}))
    monkeypatch.setattr(hub, "download_descriptions", lambda *_: shutil.copytree(copied, snapshot))
    refused = pytest.raises(ConfigError) if is_evil else contextlib.nullcontext()
    with refused, hub.loading_checkpoint("model", "me/x"):
        loaded.append(True)
    assert loaded == [True] * (not is_evil)


def test_checkpoint_with_shards_elsewhere_is_not_resumed(copied, private):
    """Its manifest was made to agree."""
    final = private / "checkpoints" / "checkpoint-1"
    sharded(copied, private / "words.txt")
    (copied / "trainer_state.json").write_text(state_text(1))
    commit(copied, final, manifest({}))
    assert checkpoint_files.latest_valid(final.parent, {})[0] is None


# --- adapters ----------------------------------------------------------------------------------------------

ADAPTERS = [
    {"peft_type": "XLORA", "adapters": {"a": "{private}"}},
    {"peft_type": "PROMPT_TUNING", "tokenizer_name_or_path": "{private}", "prompt_tuning_init": "TEXT"},
    {"peft_type": "MULTITASK_PROMPT_TUNING", "prompt_tuning_init_state_dict_path": "{private}/words.txt"},
    {"peft_type": "ADAPTION_PROMPT"},
    {"peft_type": "POLY"},
    {"peft_type": "../../evil"},
    {"peft_type": None},
    {"base_model_name_or_path": "{theirs}"},
]


NESTED = [
    {"base_model_name_or_path": "{theirs}"},
    {"base_model_name_or_path": "{theirs}", "peft_type": "XLORA", "adapters": {"a": "{private}"}},
    {"base_model_name_or_path": "{theirs}", "megatron_config": {"a": 1}, "megatron_core": "megatron.core.evil"},
]


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
@pytest.mark.parametrize("has_config", [True, False])
@pytest.mark.parametrize("fields", NESTED)
def test_adapter_of_an_adapter_is_refused(train, toy, copied, private, own_directory, fields, has_config):
    """The checkpoint that the inner adapter names would be read, or its module imported."""
    sharded(copied, "../private.safetensors")
    lora = ["adapter=lora", "adapter.config.target_modules=[query]", "trainer.args.max_steps=1"]
    folder = train(*toy, *lora).directory / "model"
    inner = Path(shutil.copytree(folder, own_directory / "inner"))
    text = json.dumps(fields).replace("{private}", str(private)).replace("{theirs}", str(copied))
    edit(inner / "adapter_config.json", **json.loads(text))
    if not has_config:
        (inner / "config.json").unlink()
    edit(folder / "adapter_config.json", base_model_name_or_path=str(inner))
    with pytest.raises(ConfigError) as caught:
        adapters.load(folder)
    assert [problem.key for problem in caught.value.problems] == ["adapter"]


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
def test_adapter_of_an_adapter_would_read_other_weights(train, toy, copied, own_directory):
    """Positive control: transformers reads the weights that an adapter without a model of its own names.

    It does so for each repository of the Hub, and for a directory without a config.json.
    """
    lora = ["adapter=lora", "adapter.config.target_modules=[query]", "trainer.args.max_steps=1"]
    inner = Path(shutil.copytree(train(*toy, *lora).directory / "model", own_directory / "inner"))
    edit(inner / "adapter_config.json", base_model_name_or_path=str(copied))
    (inner / "config.json").unlink()
    with pytest.raises(ConfigError):
        hub.check_no_adapter("adapter", str(inner))
    config = AutoConfig.from_pretrained(copied)
    loaded = AutoModelForSequenceClassification.from_pretrained(inner, config=config)
    read = load_file(copied / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert torch.equal(loaded.get_input_embeddings().weight, read)


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
@pytest.mark.parametrize("fields", ADAPTERS)
def test_adapter_of_someone_else_is_refused(train, toy, copied, private, fields):
    """It is of one of the classes that configs may name, and its checkpoint is checked like any other."""
    sharded(copied, "../private.safetensors")
    lora = ["adapter=lora", "adapter.config.target_modules=[query]", "trainer.args.max_steps=1"]
    folder = train(*toy, *lora).directory / "model"
    text = json.dumps(fields).replace("{private}", str(private)).replace("{theirs}", str(copied))
    edit(folder / "adapter_config.json", **json.loads(text))
    with pytest.raises((ConfigError, ValueError)):
        adapters.load(folder)


def test_auto_mapping_of_an_adapter_is_ignored(train, toy, own_directory):
    """Peft would import its module only to find the base model, which is known."""
    (own_directory / "evil.py").write_text("open('canary', 'w')")
    lora = ["adapter=lora", "adapter.config.target_modules=[query]", "trainer.args.max_steps=1"]
    folder = train(*toy, *lora).directory / "model"
    edit(folder / "adapter_config.json", auto_mapping={"base_model_class": "X", "parent_library": "evil"})
    adapters.load(folder)
    assert not os.path.exists("canary")  # noqa: PTH110


# --- evaluations -------------------------------------------------------------------------------------------

ELSEWHERE = [
    "{private}/test.jsonl",
    "../private/test.jsonl",
    "glob:{private}/*.jsonl",
    "glob:../priv*/test.jsonl",
    "file://{private}/test.jsonl",
    "link.jsonl",
    ["train.jsonl", "{private}/test.jsonl"],
]


@pytest.fixture
def evaluated(train, toy_files, private, own_directory):
    """Makes a finished run, started in a directory, whose config names test files elsewhere."""

    def make(cwd, files):
        folder = train(*toy_files, "trainer.args.max_steps=1", "tracking=none").directory
        shutil.copy("test.jsonl", private)
        (own_directory / "link.jsonl").symlink_to(private / "test.jsonl")
        (folder / ".hydra").mkdir(exist_ok=True)
        (folder / ".hydra" / "hydra.yaml").write_text(
            json.dumps({"hydra": {"runtime": {"cwd": cwd, "config_sources": []}}})
        )
        cfg = OmegaConf.load(folder / "config.yaml")
        cfg.dataset.files.test = json.loads(json.dumps(files).replace("{private}", str(private)))
        OmegaConf.save(cfg, folder / "config.yaml")
        return str(folder)

    return make


@pytest.mark.parametrize("files", ELSEWHERE)
def test_evaluation_of_someone_elses_run_reads_no_file_elsewhere(evaluated, files):
    """Messages about its rows, and scores, would show what is in it."""
    with pytest.raises(ConfigError) as caught:
        dispatch(["evaluate", evaluated("/nonexistent", files)])
    assert [problem.key for problem in caught.value.problems] == ["dataset.files.test"]


@pytest.mark.parametrize("path", ["~", "x", "/"])
def test_paths_of_one_character_are_checked(own_directory, path):
    """Also in a mixture; a delimiter and the like are no paths."""
    (own_directory / "x").symlink_to("/etc")
    symbols = {"delimiter": "/", "decimal": ".", "escapechar": "/", "comment": "~", "list_separator": "/"}
    source = {"files": {"test": path}, **symbols}
    cfg = OmegaConf.create({"dataset": {"sources": {"b": source}}})
    keys = [problem.key for problem in user_settings.data_files(cfg, [], ["dataset"])]
    assert keys == ["dataset.sources.b.files.test"]


@pytest.mark.parametrize("cwd", ["/proc/self/cwd", ".", None, ["{}"]])
def test_run_does_not_pass_for_ones_own(evaluated, cwd):
    """It would have to know the path of the current directory."""
    with pytest.raises(ConfigError) as caught:
        dispatch(["evaluate", evaluated(cwd, ELSEWHERE[0])])
    assert [problem.key for problem in caught.value.problems] == ["dataset.files.test"]


@pytest.mark.parametrize("is_typed", [False, True])
def test_evaluation_reads_files_of_the_user(evaluated, private, own_directory, is_typed):
    """Positive control: of the own run, and of another one if the file is typed."""
    folder = evaluated("/nonexistent" if is_typed else str(own_directory), ELSEWHERE[0])
    typed = [f"dataset.files.test={private}/test.jsonl"] if is_typed else []
    assert dispatch(["evaluate", folder, *typed]) == 0


@pytest.mark.parametrize(
    "name",
    [
        *("accelerator_config", "deepspeed", "generation_config", "resume_from_checkpoint"),
        *("trackio_space_id", "trackio_static_space_id", "trackio_bucket_id"),
    ],
)
@pytest.mark.parametrize("value", ["{private}/secret.json", "../private/secret.json"])
def test_arguments_of_someone_elses_run_name_no_files(compose, private, name, value):
    """`predict` and `evaluate` check the stored arguments too; transformers would read the file and show its keys."""
    (private / "secret.json").write_text('{"secret": 1}')
    cfg = without_hydra(compose(f"+trainer.args.{name}={value.format(private=private)}"))
    with pytest.raises(ConfigError) as caught:
        check_targets(cfg)
    assert [problem.key for problem in caught.value.problems] == [f"trainer.args.{name}"]


def test_file_of_settings_would_be_read(private):
    """Positive control: transformers shows what is in it."""
    from transformers import TrainingArguments

    (private / "secret.json").write_text('{"secret": 1}')
    with pytest.raises(ValueError, match="secret"):
        TrainingArguments(output_dir="x", accelerator_config=str(private / "secret.json"))


HEADERS = {
    "too long": (2**60).to_bytes(8, "little") + b"{}",
    "no JSON": (2).to_bytes(8, "little") + b"}{",
    "too short": b"\0",
    "a shape that is too large": (64).to_bytes(8, "little")
    + b'{"a":{"dtype":"F32","shape":[99999999999],"data_offsets":[0,4]}}'.ljust(64)
    + bytes(4),
    "overlapping tensors": (126).to_bytes(8, "little")
    + (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
       .ljust(126)) + bytes(4),
}  # fmt: skip


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_damaged_weights_are_one_error(own_directory, content):
    """The header of a file of weights is data from someone else."""
    from safetensors.torch import load_file

    (own_directory / "weights").write_bytes(content)
    with pytest.raises(ConfigError) as caught, hub.loading_checkpoint("model.x", str(own_directory)):
        load_file(own_directory / "weights")
    assert [problem.key for problem in caught.value.problems] == ["model.x"]


PLANS = ["[1]", "{}", "3", '{"space": []}', '{"space": {"parameters": [{"x": 1}]}}', "[" * 100_000, '{"space": null}']


@pytest.mark.parametrize("text", PLANS, ids=range(len(PLANS)))
@pytest.mark.parametrize("verb", ["report", "finish"])
def test_plan_of_another_form_is_one_error(own_directory, verb, text):
    """Whatever is in the file of a sweep of someone else."""
    (own_directory / "s").mkdir()
    (own_directory / "s" / "sweep.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        dispatch(["sweep", verb, "s"])
    assert [problem.key for problem in caught.value.problems] == ["SWEEP"]


NODES = ["3", "{}", "{runtime: 3}", "{runtime: {cwd: [1]}}", "{runtime: {cwd: x, config_sources: 3}}", "[1]"]


@pytest.mark.parametrize("node", NODES)
def test_node_of_another_form_is_one_error(own_directory, node):
    """Whatever is in the `hydra.yaml` of a run of someone else."""
    (own_directory / "r" / ".hydra").mkdir(parents=True)
    (own_directory / "r" / ".hydra" / "hydra.yaml").write_text(f"hydra: {node}\n")
    (own_directory / "r" / ".hydra" / "overrides.yaml").write_text("- seed=1\n")
    with pytest.raises(ConfigError) as caught:
        dispatch(["resume", "r"])
    assert [problem.key for problem in caught.value.problems] == ["RUN"]


@pytest.mark.parametrize(("link", "target"), [("my_conf", ""), ("my_conf/experiment", "checkpoints")])
@pytest.mark.parametrize("is_typed", [False, True])
def test_experiment_is_written_through_no_link(private, own_directory, link, target, is_typed):
    """A cloned project can contain a link to a directory of the user, who may name it."""
    (own_directory / link).parent.mkdir(exist_ok=True)
    (own_directory / link).symlink_to(private / target)
    before = sorted(private.rglob("*"))
    fake_study(["dataset=digits", "hydra.sweep.dir=multirun/x", *SPACE], fake(1e-3, 0, 0.5, folder="0"))
    typed = (
        ["--config-dir", "my_conf", "seed=2"] if is_typed else []
    )  # the seed is an error, so that nothing is trained
    with pytest.raises(ConfigError) as caught:
        dispatch(["sweep", "finish", "multirun/x", *typed, "--seeds", "1"])
    is_allowed = is_typed and link != "my_conf"  # a typed folder may have links in it, but must not be one
    assert [problem.key for problem in caught.value.problems] == (["seed"] if is_allowed else ["--config-dir"])
    assert sorted(private.rglob("*")) == before
