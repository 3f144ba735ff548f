"""`hydratune lr-find`: a short sweep over learning rates, and the interval that a longer sweep should search."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence

from hydratune.cli.train_options import make_request, parse_overrides
from hydratune.cli.train_or_print import train_or_print
from hydratune.config.instantiate import build
from hydratune.sweep.lr_interval import Proposal, RateTrial, propose
from hydratune.sweep.plan import Plan, make_plan
from hydratune.sweep.study import METRICS, Study
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.errors import FAILED, KEY, ConfigError, Problem, invalid_value
from hydratune.utils.messages import print_error
from hydratune.utils.provenance import cli_path
from hydratune.utils.short_forms import metric_name

_RATE = "trainer.args.learning_rate"
_EVALUATIONS = 4  # of each trial; ASHA prunes after them
_EPILOG = """All arguments of hydratune -m are accepted too, e.g. sweep.workers=2. The trials form a sweep: run the same
command again to resume it, and `hydratune sweep report` to print it. Each trial trains for --steps steps, and completes
its learning-rate schedule. Each is evaluated four times on the validation split, and ASHA prunes the worse half of the
trials each time. The test split is not used.

The range contains the rates around the best one whose scores are within a tolerance of the best score. The tolerance
is 10% of the difference between the median and the best score; for an accuracy, at least one standard error."""


def main(arguments: Sequence[str]) -> int:
    """Run the sweep, print the proposed interval, and return the exit code."""
    args, rest = _parser().parse_known_args(arguments)
    if problems := [*_problems(args, rest)]:
        raise ConfigError(*problems)
    sweep_arguments = ["-m", *_overrides(args), *rest]
    flags = parse_overrides(sweep_arguments)
    if flags.dry_run:
        return train_or_print(sweep_arguments)
    plan, cfg = make_plan(make_request(flags))
    if len(plan.space.parameters) > 1:
        others = ", ".join(p.name for p in plan.space.parameters if p.name != _RATE)
        text = f"lr-find varies only {_RATE}, but {others} has several values"
        raise ConfigError(Problem(others, text, "set it to one value"))
    code = train_or_print(sweep_arguments)
    trials = Study(plan, build(cfg.sweep)).trials()
    rates = [
        RateTrial(trial.params[_RATE], trial.intermediate_values, trial.state.name == "COMPLETE") for trial in trials
    ]
    samples = (trial.user_attrs.get(METRICS, {}).get("eval_samples") for trial in trials)
    metric, direction = next(iter(plan.objectives.items()))
    rows = next((int(count) for count in samples if count), None)
    proposal = propose(rates, args.low, args.high, metric, direction == "maximize", rows)
    if proposal is None:
        print_error("no trial was completed, so no range can be proposed", "see the errors of the trials above")
        return code or FAILED
    _print(proposal, metric, len(trials), plan)
    return code


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="hydratune lr-find",
        usage="hydratune lr-find [--low RATE] [--high RATE] [--trials N] [--steps N]\n"
        "                         [KEY=VALUE ...]",
        description="Find a range of learning rates for a sweep.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--low", type=float, default=1e-6, metavar="RATE", help="lowest rate [default: 1e-6]")
    parser.add_argument("--high", type=float, default=1e-2, metavar="RATE", help="highest rate [default: 1e-2]")
    parser.add_argument("--trials", type=int, default=16, metavar="N", help="number of rates [default: 16]")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="steps per trial [default: 100]")
    return parser


def _problems(args: argparse.Namespace, rest: Sequence[str]) -> list[Problem]:
    problems = []
    if not 0 < args.low < args.high:
        problems.append(invalid_value("--low", f"greater than 0 and less than --high ({args.high:g})", f"{args.low:g}"))
    for option, least in (("trials", 3), ("steps", _EVALUATIONS)):
        if (value := getattr(args, option)) < least:
            problems.append(invalid_value(f"--{option}", f"at least {least}", value))
    if any(text.lstrip("+~").partition("=")[0] == _RATE for text in rest):
        problems.append(Problem(_RATE, f"{KEY} must not be set, because lr-find varies it", "use --low and --high"))
    return problems


def _overrides(args: argparse.Namespace) -> list[str]:
    """Return the overrides of the sweep, which those of the user follow."""
    steps = {"max_steps": args.steps, "eval_strategy": "steps", "eval_steps": args.steps // _EVALUATIONS}
    whole = {**steps, "save_strategy": "no", "load_best_model_at_end": "false"}
    return [
        f"{_RATE}=tag(log,interval({args.low},{args.high}))",
        *(f"trainer.args.{name}={value}" for name, value in whole.items()),
        *("sweep=qmc", f"sweep.n_trials={args.trials}"),
        *("sweep.pruner=asha", "sweep.pruner_args={reduction_factor: 2}"),
    ]


def _print(proposal: Proposal, metric: str, count: int, plan: Plan) -> None:
    """Print the interval as an override that can be pasted, and what it is based on."""
    override = f"{_RATE}=tag(log,interval({proposal.low:g},{proposal.high:g}))"
    within = f"within {proposal.tolerance:.2g} of its {metric_name(metric)}"
    print(f"\n{proposal.count} of {count} rates around the best, {proposal.best:.2g}, are {within}")
    for reaches, end, option in (
        (proposal.reaches_low, "lowest", f"--low {proposal.low / 10:g}"),
        (proposal.reaches_high, "highest", f"--high {proposal.high * 10:g}"),
    ):
        if reaches:
            print(f"the {end} rate is among them; to search further, use {option}")
    print(f"proposed search space: {shlex.quote(override)}")
    print(f"trials: {shlex.join([cli_path(), 'sweep', 'report', os.path.relpath(plan.directory)])}")
