"""docs/support.md says `tested` where a test runs a combination, and nowhere else."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hydratune.config.instantiate import build
from hydratune.config.options import options, shipped_dir

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
TASKS = [option.name for option in options(shipped_dir()) if option.group == "task"]
ADAPTERS, PREDICT = "models/test_adapters.py::", "evaluation/test_predict.py::"
MODELS, COMPARE = "tracking/test_logged_models.py::", "evaluation/test_compare.py::"
# Column -> task -> the test that runs it; a test with the task in its parameters comes first.
TESTS = {
    "train": {
        **{task: f"config/test_experiments.py::test_two_steps[wordnet_{task}]" for task in TASKS},
        "image_classification": "config/test_experiments.py::test_two_steps[digits]",
    },
    "LoRA": {
        **{task: f"{ADAPTERS}test_every_task_of_an_encoder[{task}]" for task in TASKS},
        **{task: f"{ADAPTERS}test_every_task_of_a_decoder[{task}]" for task in ("causal_lm", "supervised_fine_tuning")},
        **dict.fromkeys(("seq2seq", "image_classification"), f"{ADAPTERS}test_seq2seq_and_images"),
        "sequence_classification": f"{ADAPTERS}test_learns_and_loads",
    },
    "`predict`": {
        **{task: f"{PREDICT}test_a_run_predicts_what_it_predicted[{task}" for task in TASKS},
        "image_classification": f"{PREDICT}test_images",
        "causal_lm": f"{PREDICT}test_a_causal_model_goes_on",
        "supervised_fine_tuning": f"{PREDICT}test_a_chat_is_answered",
        "masked_lm": f"{PREDICT}test_masks_are_filled",
    },
    "MLflow pipeline": {
        **{task: f"{MODELS}test_every_pipeline[wordnet_{task}]" for task in TASKS},
        "sequence_classification": f"{MODELS}test_the_final_model",
    },
    "`compare` by row": {
        "sequence_classification": f"{COMPARE}test_two_real_runs",
        "question_answering": f"{COMPARE}test_questions_about_one_context_are_tested_together",
    },
}


def rows() -> dict[str, dict[str, str]]:
    """Return task -> column -> status."""
    header, *lines = re.findall(r"^\| (.+) \|$", PAGE.partition("## Tasks")[2].partition("\n## ")[0], re.MULTILINE)
    columns = header.split(" | ")[1:]
    cells = [line.split(" | ") for line in lines]
    return {name.strip("`"): dict(zip(columns, statuses, strict=True)) for name, *statuses in cells}


@pytest.fixture(scope="module")
def test_ids() -> list[str]:
    """Return the IDs of the tests of the files in `TESTS`."""
    files = sorted({test.partition("::")[0] for tests in TESTS.values() for test in tests.values()})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *(f"tests/{file}" for file in files)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return found.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("column", TESTS)
def test_tested_combinations_have_a_test(column, test_ids):
    """A cell says `tested` exactly where the test exists."""
    exists = {task: any(f"tests/{test}" in test_id for test_id in test_ids) for task, test in TESTS[column].items()}
    tested = {task: cells[column] == "tested" for task, cells in rows().items()}
    assert tested == {task: exists.get(task, False) for task in TASKS}


@pytest.mark.parametrize("task", TASKS)
def test_unsupported_combinations_are_those_of_the_task(task, compose):
    """A task without a pipeline has none in MLflow, and a language model has no rows to compare."""
    one = build(compose(f"task={task}").task)
    assert (rows()[task]["MLflow pipeline"] == "no") == (one.pipeline is None)
    assert (rows()[task]["`compare` by row"] == "no") == bool(one.no_predictions_reason)


def test_every_task_is_listed():
    """Once, under the name that configs use."""
    assert sorted(rows()) == sorted(TASKS)
