"""The pictures of a sweep, all of them optuna's: each for a page and as a file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.errors import one_line
from hydratune.files import whole
from hydratune.plotting import literal, literal_html, no_warnings
from hydratune.sweep.show import short_name
from hydratune.sweep.space import short

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from hydratune.sweep.plan import Plan

log = logging.getLogger(__name__)

_FRONTS = (2, 3)  # objectives that a front can be drawn of
_LEGEND = 12  # curves that a picture names
_GREY = "#999999"


@dataclass(frozen=True)
class Plot:
    """One picture.

    Args:
        name: Of its file.
        title: Above it.
        draw: Makes it by `optuna.visualization` or by `optuna.visualization.matplotlib`, which have the same functions.
        missing: Why there is none; empty where it can be drawn.
    """

    name: str
    title: str
    draw: Callable[[Any], Any]
    missing: str = ""

    def html(self, script: bool) -> str:
        """A part of a page, with plotly's own code in it where `script` is set; raises what optuna raises."""
        import optuna

        with no_warnings():
            figure = self.draw(optuna.visualization)
        return figure.to_html(full_html=False, include_plotlyjs=script)

    def png(self, path: Path) -> bool:
        """Whether it could be drawn as a file."""
        import matplotlib as mpl

        mpl.use("Agg")  # without a screen
        import optuna
        from matplotlib import pyplot as plt

        try:
            with no_warnings(), plt.rc_context(), whole(path) as part:
                figure = self.draw(optuna.visualization.matplotlib).figure
                figure.set_layout_engine("none")  # it would be drawn once more, and cut to what is drawn anyway
                figure.savefig(part, format="png", bbox_inches="tight")
        except Exception as error:  # a picture is not worth a sweep
            log.warning("sweep: no %s: %s", path.name, one_line(error))
            return False
        finally:
            plt.close("all")
        return True


def of(plan: Plan, trials: Sequence[FrozenTrial]) -> list[Plot]:
    """The pictures of a study by all of its trials, in their order."""
    seen = _Copies(plan, trials)
    several = len(plan.objectives) > 1
    found = [_front(plan, seen)] if several else []
    for i, name in enumerate(plan.objectives):
        found += _of_objective(seen, short_name(name), i if several else None)
    return [*found, _curves(plan, seen)]


class _Copies:
    """Copies of a study in memory, in which values are escaped as each library requires."""

    def __init__(self, plan: Plan, trials: Sequence[FrozenTrial]) -> None:
        self.plain = _renamed(plan, trials, str)
        self._formulas = _renamed(plan, trials, literal)
        self._tooltips = _renamed(plan, trials, literal_html)

    def of(self, module: Any, tooltips: bool = False) -> optuna.Study:
        """Return the copy for `optuna.visualization` or its matplotlib twin; plotly reads tags in tooltips only."""
        if module.__name__.endswith("matplotlib"):
            return self._formulas
        return self._tooltips if tooltips else self.plain


def _renamed(plan: Plan, trials: Sequence[FrozenTrial], escape: Callable[[str], str]) -> optuna.Study:
    """Copy a study; its parameters get the short names of the tables if these differ from one another."""
    import optuna
    from optuna.distributions import CategoricalDistribution

    names = [one.name for one in plan.space.parameters]
    shorts = [short(name) for name in names]
    known = {name: told if shorts.count(told) == 1 else name for name, told in zip(names, shorts, strict=True)}

    def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
        return {known[name]: value for name, value in values.items()}

    def escaped(value: Any) -> Any:
        if isinstance(value, CategoricalDistribution):
            return CategoricalDistribution([escaped(choice) for choice in value.choices])
        return escape(value) if isinstance(value, str) else value

    study = optuna.create_study(directions=[*plan.objectives.values()])  # type: ignore[list-item]
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                state=trial.state,
                values=trial.values,
                params=renamed({name: escaped(value) for name, value in trial.params.items()}),
                distributions=renamed({name: escaped(value) for name, value in trial.distributions.items()}),
                intermediate_values=trial.intermediate_values,
            )
        )
    return study


def _of_objective(seen: _Copies, name: str, number: int | None) -> Iterator[Plot]:
    """The pictures of one objective; `number` is None where it is the only one."""
    done = [trial for trial in seen.plain.trials if trial.state.name == "COMPLETE"]
    values = {trial.values[number or 0] for trial in done}
    shared = [key for key in (done[0].params if done else ()) if all(key in trial.params for trial in done)]
    target = None if number is None else lambda trial: trial.values[number]
    end = "" if number is None else f"_{name}"
    common: dict[str, Any] = {"target": target, "target_name": name}
    few = "" if len(done) > 1 else "it takes two trials that are done"
    no_key = "" if shared else "the trials have no parameter in common"
    alike = "" if len(values) > 1 else f"all trials have the same {name}"
    alone = "" if len(shared) > 1 else "it takes two parameters that all trials have"

    def titled(title: str, function: str, **more: Any) -> Callable[[Any], Any]:
        return lambda module: _titled(getattr(module, function)(seen.of(module), **common, **more), title)

    title = f"{name}: parallel coordinates"
    draw = titled(title, "plot_parallel_coordinate", params=shared)
    yield Plot(f"parallel_coordinates{end}", title, draw, few or no_key)
    title = f"{name}: what it depends on"
    draw = titled(title, "plot_param_importances")
    yield Plot(f"parameter_importances{end}", title, draw, few or alike or alone)
    title = f"{name}: trial by trial"
    draw = titled(title, "plot_optimization_history")
    yield Plot(f"optimization_history{end}", title, draw, "" if done else "no trial is done")


def _front(plan: Plan, seen: _Copies) -> Plot:
    names = [short_name(name) for name in plan.objectives]
    title = f"Pareto front of {' and '.join(names)}"
    done = any(trial.state.name == "COMPLETE" for trial in seen.plain.trials)
    many = "" if len(names) in _FRONTS else f"there are {len(names)} objectives, and optuna draws two or three"

    def draw(module: Any) -> Any:
        return _titled(module.plot_pareto_front(seen.of(module, tooltips=True), target_names=names), title)

    return Plot("pareto_front", title, draw, many or ("" if done else "no trial is done"))


def _curves(plan: Plan, seen: _Copies) -> Plot:
    """The values that trials reported while they were trained; those of pruned ones are dotted."""
    name = short_name(next(iter(plan.objectives)))
    what = "seed by seed" if plan.seeds else "evaluation by evaluation"
    title = f"{name}: {what} (dotted: pruned)"
    pruned = {f"Trial{trial.number}" for trial in seen.plain.trials if trial.state.name == "PRUNED"}
    missing = (
        "" if any(trial.intermediate_values for trial in seen.plain.trials) else "no trial has reported while it ran"
    )

    def draw(module: Any) -> Any:
        figure = _titled(module.plot_intermediate_values(seen.of(module)), title)
        _mark(figure, pruned, "seed" if plan.seeds else "evaluation", name)
        return figure

    return Plot("learning_curves", title, draw, missing)


def _mark(figure: Any, pruned: set[str], step: str, name: str) -> None:
    """Names the axes, and tells the curves of pruned trials from the others."""
    if hasattr(figure, "update_layout"):
        figure.update_layout(xaxis_title=step, yaxis_title=name)
        for trace in figure.data:
            if trace.name in pruned:
                trace.update(line_dash="dot", line_color=_GREY, marker_symbol="x")
        return
    figure.set_xlabel(step)
    figure.set_ylabel(name)
    for i, line in enumerate(figure.lines):
        line.set(color=f"C{i}")  # optuna's own colours end at 20
        if line.get_label() in pruned:
            line.set(linestyle=":", marker="x", color=_GREY)
    if len(figure.lines) > _LEGEND and figure.get_legend():
        figure.get_legend().remove()


def _titled(figure: Any, title: str) -> Any:
    """A figure of plotly, or axes of matplotlib, under another title."""
    if hasattr(figure, "update_layout"):
        return figure.update_layout(title=title)
    figure.set_title(title)
    return figure
