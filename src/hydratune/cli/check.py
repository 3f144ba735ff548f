"""Check the config and the data of a run, and estimate its memory and time."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from hydratune.cli.train import checked
from hydratune.cli.train_options import make_request, parse_overrides, with_project_configs
from hydratune.config import composition
from hydratune.config.compose_errors import compose_error
from hydratune.training.preflight import preflight
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.console import plain_console
from hydratune.utils.errors import ConfigError, Problem
from hydratune.utils.provenance import cli_path
from hydratune.utils.short_forms import share_text

if TYPE_CHECKING:
    from hydratune.training.estimates import Estimates
    from hydratune.training.preview import Preview

_EPILOG = """check reads all rows, tokenizes a sample of them, and builds the model without
loading weights. It does not train, create a run directory, or write to MLflow.
hydratune --dry-run is faster: of the data, it reads only local files up to 10 MB.

Examples
  hydratune check
  hydratune check dataset=local dataset.files.train=reviews.csv

Exit codes: 0 no errors found, 2 invalid config or data"""
_UNSUPPORTED = {"multirun": "--multirun", "cfg": "--cfg", "info": "--info", "dry_run": "--dry-run"}
_LISTED = 8  # labels
_ENDS = 3  # labels at each end of a longer list
_GB, _GIGA = 10**9, 10**9


def main(arguments: Sequence[str]) -> int:
    """Check one run, print what its data and its model show, and return the exit code."""
    flags = parse_overrides(with_project_configs(arguments))
    if flags.help:
        _parser().print_help()
        return 0
    for name, flag in _UNSUPPORTED.items():
        if getattr(flags, name):
            plan = shlex.join(["hydratune", "sweep", "plan", *flags.overrides])
            hint = f"to validate a sweep, use {plan}" if name == "multirun" else ""
            raise ConfigError(Problem(flag, f"hydratune check does not support {flag}", hint))
    request = make_request(flags)
    try:
        with composition.composer(request):
            cfg = composition.without_hydra(checked(request))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(compose_error(error)) from error
    coverage = preflight([cfg], dry=True)
    from hydratune.training.preview import preview

    facts = preview(cfg, coverage.checkpoint)
    coverage.checked.append(f"rows, {facts.sampled:,} of them tokenized")
    coverage.unchecked.remove("rows")
    console = plain_console(soft_wrap=True)
    for label, text in _lines(facts):
        console.print(f"{label:<9} {text}".rstrip())
    console.print(str(coverage))
    console.print(f"no errors found; train with: {shlex.join([cli_path(), *arguments])}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="hydratune check",
        description=__doc__,
        epilog=_EPILOG,
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="overrides, as for training")
    parser.add_argument("--config-dir", metavar="DIR", help="directory of your own configs [default: the project's]")
    return parser


def _lines(facts: Preview) -> Iterator[tuple[str, str]]:
    """Yield label and text of each line."""
    counts = " / ".join(f"{'a stream' if n is None else f'{n:,}'} {split}" for split, n in facts.rows.items())
    yield "rows", counts + (f"; {facts.dropped:,} invalid rows skipped" if facts.dropped else "")
    if facts.tokens:
        yield "tokens", f"{_tokens(facts)} ({_basis(facts)})"
    if facts.labels:
        basis = f" ({_basis(facts)})" if facts.labels.sampled else ""
        yield "labels", f"{len(facts.labels.shares)}: {_shares(list(facts.labels.shares.items()))}{basis}"
        if facts.labels.warning:
            yield "warning", facts.labels.warning
    share = f"{facts.trainable:,} trainable ({share_text(facts.trainable / facts.parameters, 2)})"
    share = "all trainable" if facts.trainable == facts.parameters else share
    yield "model", f"{facts.model}, {facts.parameters:,} parameters, {share}"
    yield "batch", _batch(facts)
    yield from _estimates(facts)


def _basis(facts: Preview) -> str:
    n_rows = facts.rows["train"]
    of_rows = "of the stream" if n_rows is None else "" if n_rows == facts.sampled else f"of {n_rows:,}"
    return " ".join(filter(None, (f"{facts.sampled:,}" if of_rows else "all", of_rows, "train rows")))


def _tokens(facts: Preview) -> str:
    tokens = facts.tokens
    assert tokens is not None  # the caller checks it
    text = f"p50 {tokens.median:,}, p95 {tokens.p95:,}, max {tokens.longest:,}"
    if tokens.truncated is not None:
        share = f"{share_text(tokens.truncated)} of rows" if tokens.truncated else "no row"
        return text if tokens.limit is None else f"{text}; {share} truncated to {tokens.limit:,}"
    if tokens.inputs_per_row != 1:
        return f"{text} per input; {tokens.inputs_per_row:.2f} inputs per row"
    return text


def _shares(shares: Sequence[tuple[str, float]]) -> str:
    texts = [f"{name} {share_text(share)}" for name, share in shares]
    if len(texts) > _LISTED:
        texts = [*texts[:_ENDS], "...", *texts[-_ENDS:]]
    return ", ".join(texts)


def _batch(facts: Preview) -> str:
    schedule = facts.schedule
    text = f"effective batch size {schedule.batch_size:,}"
    if schedule.per_epoch is not None:
        text += f", {schedule.per_epoch:,} steps per epoch"
    is_exact = facts.tokens is None or facts.tokens.inputs_per_row == 1 or facts.rows["train"] == facts.sampled
    return f"{text}, {schedule.steps:,} steps" + ("" if is_exact else f" (estimated from {_basis(facts)})")


def _estimates(facts: Preview) -> Iterator[tuple[str, str]]:
    numbers = facts.estimates
    if numbers.state_bytes is not None:
        yield from _memory(numbers, facts.schedule.args.optim.value)
    if numbers.seconds is not None and numbers.flops and numbers.flops_per_second:
        yield "time", f"at least {_duration(numbers.seconds)} for {facts.schedule.steps:,} steps, without evaluation"
        yield "", f"{numbers.flops / _GIGA:,.1f} GFLOP per step, for rows of mean length"
        place = f"{facts.schedule.precision}, {facts.schedule.args.device.type.upper()}"
        speed = f"{numbers.flops_per_second / _GIGA:,.0f} GFLOP/s"
        yield "", f"{speed}, the current speed of matrix multiplications here ({place})"
    if numbers.reason:
        yield "estimates", f"incomplete: {numbers.reason}"


def _memory(numbers: Estimates, optimizer: str) -> Iterator[tuple[str, str]]:
    """Yield the lines about memory; the first one has the sum only if all terms are counted."""
    assert numbers.state_bytes is not None  # the caller checks it
    is_complete = numbers.activation_bytes is not None and numbers.has_moments
    total = numbers.state_bytes + (numbers.activation_bytes or 0)
    text = f"{'about' if is_complete else 'more than'} {total / _GB:.2f} GB for training"
    yield "memory", text + (f", {numbers.free_bytes / _GB:.1f} GB free" if numbers.free_bytes is not None else "")
    state = "weights, gradients, and AdamW's moments" if numbers.has_moments else "weights and gradients"
    missing = "" if numbers.has_moments else f"; the state of {optimizer} is not counted"
    yield "", f"{numbers.state_bytes / _GB:.2f} GB {state}{missing}"
    if numbers.activation_bytes is not None:
        rows = f"{numbers.batch_rows:,} rows"
        rows += f" of {numbers.batch_tokens:,} tokens" if numbers.batch_tokens is not None else ""
        yield "", f"{numbers.activation_bytes / _GB:.2f} GB activations of {rows}, counted in fp32"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{max(seconds, 1):.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
