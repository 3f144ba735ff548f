"""Names of other tools: in each form that a user may type, the hint has the same key, which exists."""

import functools
import shlex

import pytest
from omegaconf import OmegaConf

from hydratune.cli.train_options import parse_overrides
from hydratune.config import composition
from hydratune.config.composition import Request
from hydratune.config.suggestions import TRAINING_ARGUMENTS, argument_names
from hydratune.config.validate import check_config
from hydratune.utils.errors import ConfigError
from hydratune.utils.other_names import NAMES, meaning_of

PATHS = [(name, key) for key, names in NAMES.items() for name in names if not key.startswith("--")]
FORMS = ["--{}=org/name", "{}=org/name", "trainer.{}=org/name", "trainer.args.{}=org/name", "training.{}=org/name"]
ARGUMENTS = {*argument_names(TRAINING_ARGUMENTS)}  # accepted or rejected below `trainer.args` for another reason


@functools.cache
def composed(*overrides):
    """Return the config of some overrides, without checks."""
    request = Request(overrides)
    with composition.composer(request):
        return composition.compose_config(request, composition.force_add(request))


def errors(typed):
    """Return the problems of options or overrides, all of them together."""
    check = parse_overrides if typed[0].startswith("--") else check_config
    with pytest.raises(ConfigError) as caught:
        check(typed if check is parse_overrides else composed(*typed))
    return {problem.key.removeprefix("--"): problem.hint for problem in caught.value.problems}


@functools.cache
def overrides_in_hints(form):
    """Return name -> the overrides, or the key alone, in the hint for each name in one form."""
    names = [name for name, _ in PATHS if name not in ARGUMENTS or "args" not in form]
    if form.startswith("training"):  # a mapping with one value, for training arguments only
        names = [name for name, key in PATHS if key.startswith("trainer.args.")]
        hints = {name: errors([form.format(name)])["training"] for name in names[:: len(names) // 5]}
    else:
        hints = {key.rpartition(".")[2]: hint for key, hint in errors([form.format(name) for name in names]).items()}
    firsts = {name: hint.splitlines()[0] for name, hint in hints.items()}
    return {name: shlex.split(hint.partition(": ")[2] or hint.partition("use ")[2]) for name, hint in firsts.items()}


def test_a_name_has_one_meaning():
    """No name is listed for two keys."""
    names = [name for names in NAMES.values() for name in names]
    assert len(names) == len({*names})


@pytest.mark.parametrize("form", FORMS)
def test_every_name_is_answered_with_its_key_in_every_form(form):
    """The hint for `--lr`, `lr=`, `trainer.lr=`, and others ends with the key of the table, or sets the group."""
    meanings = dict(PATHS)
    hints = overrides_in_hints(form)
    assert hints
    for name, typed in hints.items():
        group = meaning_of(name).partition(".")[0]
        key = typed[-1].partition("=")[0]
        assert key == meanings[name].partition("=")[0] or typed[0].startswith(f"{group}="), (name, typed)


@pytest.mark.parametrize("form", FORMS)
def test_keys_in_hints_exist(form):
    """The config has each key once it has the options that the hint chooses."""
    for name, typed in overrides_in_hints(form).items():
        groups = Request().groups
        chosen = tuple(text for text in typed if text.partition("=")[0] in groups)
        cfg = composed(*chosen)
        for key in (text.partition("=")[0] for text in typed):
            parent, _, last = key.rpartition(".")
            node = OmegaConf.select(cfg, parent) if parent else cfg
            is_argument = parent == "trainer.args" and last in ARGUMENTS
            is_column = parent == "dataset.columns"  # its keys are the columns of the task
            assert key in groups or is_argument or is_column or last in {*(node or {})}, (name, typed)
