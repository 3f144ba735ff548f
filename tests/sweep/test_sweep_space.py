"""What a sweep searches, from the words of the command line."""

import pytest

from hydratune.config.composition import Request, composer
from hydratune.sweep.space import Parameter, read_space
from hydratune.utils.errors import ConfigError
from hydratune.utils.short_forms import setting_text, short_name

LR, WD = "trainer.args.learning_rate", "trainer.args.weight_decay"


def space(*overrides, zipped=(), conditions=None):
    """The space of some overrides."""
    request = Request(overrides)
    with composer(request):
        return read_space(request, zipped, conditions or {})


def test_choices_keep_their_text():
    """What was typed is what composes; numbers and truth values are such in the study."""
    (one,) = space("trainer.args.fp16=true,false").parameters
    assert one.labels == [True, False]
    (one,) = space(f"{LR}=1e-5,3e-5").parameters
    assert one.labels == [1e-5, 3e-5]
    assert one.overrides(3e-5) == [f"++{LR}=3e-05"]
    (one,) = space("model=minilm,bert").parameters
    assert one.overrides("bert") == ["model=bert"]


def test_texts_with_signs():
    """A text in quotes is a text, with whatever is in it."""
    (one,) = space("vars.a='x,y','1'").parameters
    assert one.labels == ["x,y", "1"]
    assert one.overrides("x,y") == ["++vars.a='x,y'"]


def test_intervals():
    """Numbers between two ends; whole ones, and by their logarithm."""
    (one,) = space(f"{LR}=tag(log,interval(1e-6,1e-3))").parameters
    assert (one.low, one.high, one.log, one.whole, one.labels) == (1e-6, 1e-3, True, False, [])
    (one,) = space("seed=int(interval(1,10))").parameters
    assert (one.low, one.high, one.whole) == (1, 10, True)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (f"{LR}=tag(log,interval(1e-6,1e-3))", True),
        (f"{LR}=interval(1e-6,1e-3)", False),
        (f"{LR}=1e-5,1e-4,1e-3", True),
        (f"{LR}=1e-5,3e-5", False),
        (f"{WD}=0,0.1,1.5", False),
        ("seed=1,2,300", False),
        ("model=minilm,bert", False),
        (f"seed=1,2 {LR}=1e-5,1e-3", True),
    ],
)
def test_parameter_is_logarithmic(override, expected):
    """Choices over more than one power of ten are unreadable on a linear axis; seeds are no amounts."""
    assert space(*override.split()).parameters[-1].is_logarithmic == expected


def test_ranges():
    """Equal steps without the end, as in Python."""
    (one,) = space("seed=range(1,7,2)").parameters
    assert one.labels == [1, 3, 5]
    (one,) = space(f"{WD}=range(0,0.3,0.1)").parameters
    assert one.labels == [0, 0.1, 0.2]


def test_a_grid_in_order():
    """The last key changes fastest, as in Hydra's basic sweeper; a value that is named twice counts once."""
    points = space("seed=1,2", f"{WD}=0,0.1,0").grid()
    assert [tuple(point.values()) for point in points] == [(1, 0), (1, 0.1), (2, 0), (2, 0.1)]


def test_corners():
    """Each choice and each end is at least once among a few points."""
    points = space("model=minilm,bert,gpt_tiny", f"{LR}=interval(0.1,0.2)").corners()
    assert [tuple(point.values()) for point in points] == [("minilm", 0.1), ("bert", 0.2), ("gpt_tiny", 0.2)]


def test_keys_are_zipped():
    """Keys that move together are one parameter, in the place of the first."""
    both = space(f"{LR}=1,2", "seed=7,8", f"{WD}=3,4", zipped=[[LR, WD]])
    assert [one.name for one in both.parameters] == [f"{LR}+{WD}", "seed"]
    assert both.overrides({f"{LR}+{WD}": "2, 4"}) == [f"++{LR}=2", f"++{WD}=4"]


def test_conditions():
    """A key that does not count is in no point."""
    points = space("seed=1,2", "adapter=none,lora", conditions={"seed": "adapter=lora"}).grid()
    assert points == [{"adapter": "none"}, {"adapter": "lora", "seed": 1}, {"adapter": "lora", "seed": 2}]


@pytest.mark.parametrize(
    ("overrides", "more", "key", "names", "hint"),
    [
        ((), {}, "-m", [], f"{LR}=1e-5,3e-5"),
        (("seed=1,2",), {"zipped": [["seed", "sed"]]}, "sweep.zip", ["'sed'"], ": seed"),
        (("seed=1,2",), {"zipped": [["seed", WD]]}, "sweep.zip", [repr(WD)], f"{WD}=A,B"),
        (("seed=1,2", f"{LR}=interval(0,1)"), {"zipped": [["seed", LR]]}, "sweep.zip", [repr(LR)], f"{LR}=A,B"),
        (("seed=1,2",), {"zipped": [["seed"]]}, "sweep.zip", ["seed"], "second"),
        (("seed=1,2", f"{WD}=0,1,2"), {"zipped": [["seed", WD]]}, "sweep.zip", ["seed has 2", f"{WD} has 3"], "same number"),
        (("seed=1,2",), {"conditions": {"seed": "model=bert"}}, "sweep.conditions", ["'model'"], "model=A,B"),
        (("seed=1,2",), {"conditions": {"seed": "seed=1"}}, "sweep.conditions", ["seed"], "always active"),
        (("seed=1,2", "model=bert,minilm"), {"conditions": {"seed": "model=brt"}}, "sweep.conditions", ["model", "'brt'"], ": bert"),
        (("seed=1,2", "model=bert,minilm"), {"conditions": {"seed": "model=x"}}, "sweep.conditions", ["'x'"], "bert, minilm"),
        ((f"{LR}=tag(log,interval(0,1))",), {}, LR, ["0"], ""),
    ],
)  # fmt: skip
def test_errors(overrides, more, key, names, hint):
    """Each error is told under the key that makes it."""
    with pytest.raises(ConfigError) as error:
        space(*overrides, **more)
    (problem,) = error.value.problems
    assert problem.key == key
    assert all(name in problem.message for name in names)
    assert hint in "; ".join(problem.hints)


def test_an_interval_has_no_grid():
    """A grid of numbers without end says how to search them."""
    with pytest.raises(ConfigError) as error:
        space(f"{LR}=interval(0.1,0.2)").grid()
    (problem,) = error.value.problems
    assert problem.key == LR
    assert "0.1 to 0.2" in problem.message
    assert "sweep=tpe sweep.n_trials=" in problem.hint


def test_names():
    """Tables show the last part of a key, and few digits."""
    assert short_name(f"{LR}+{WD}") == "lr+wd"
    assert [setting_text(one) for one in (0.00031622776, 3, True, "bert")] == ["0.000316", "3", "true", "bert"]
    assert Parameter((LR,), ("++",), low=0, high=1, step=0.25).labels == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("override", ["sweep.seeds=1,2", "sweep.n_trials=3,4", "sweep=grid,tpe"])
def test_option_of_the_sweep_is_not_swept(override):
    """It has one value for all trials; several seeds are a list."""
    with pytest.raises(ConfigError) as caught:
        space(override, f"{LR}=1e-5,3e-5")
    (problem,) = caught.value.problems
    assert problem.key == override.partition("=")[0]
    assert ("=[1,2]" in problem.hint) == (problem.key == "sweep.seeds")
