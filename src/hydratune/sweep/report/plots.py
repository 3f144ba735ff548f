"""Plots of a sweep, all drawn by optuna, for the HTML page and as image files."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydratune.sweep.report.importances import MIN_TRIALS, draw_importances
from hydratune.utils.errors import one_line
from hydratune.utils.files import atomic_write
from hydratune.utils.plotting import literal, literal_html, no_warnings
from hydratune.utils.report_page import figure
from hydratune.utils.short_forms import metric_name

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from hydratune.sweep.plan import Plan

log = logging.getLogger(__name__)

_FRONTS = (2, 3)  # numbers of objectives for which optuna draws a Pareto front
_NAMED = 5  # best trials whose curves have a color and a name
_TOO_FEW = f"it needs at least {MIN_TRIALS} completed trials"
_TRIAL = re.compile(r"^Trial(\d+)$")
_GREY, _PALE = "#999999", "#c6d3e1"
_FAINT = "rgba(138, 144, 153, 0.35)"  # pale on white and on dark pages
# From the worst to the best value, visible on white and on dark pages.
PAGE_SCALE = [[0, "#e4573d"], [0.5, "#d98b06"], [1, "#4269d0"]]
# The scale of image files; optuna's own one ends in white, which hides the worst trial on a white page.
_SCALE = "viridis"


@dataclass(frozen=True)
class Plot:
    """One plot.

    Args:
        name: Name of its file.
        title: Title above the plot.
        draw: Draws it by `optuna.visualization` or `optuna.visualization.matplotlib`, which have the same functions.
        missing: Reason why it cannot be drawn; empty if it can.
        has_image: Whether it is also an image file.
        has_line: Whether it has a line of the page to itself.
    """

    name: str
    title: str
    draw: Callable[[Any], Any]
    missing: str = ""
    has_image: bool = True
    has_line: bool = False

    def html(self) -> str:
        """Return the plot as HTML; exceptions of optuna propagate."""
        import optuna

        with no_warnings():
            drawing = _worded(self.draw(optuna.visualization))
        return figure(self.title, drawing, height=380, widest=1600 if self.has_line else None)

    def png(self, path: Path) -> bool:
        """Draw the plot into a file, and return whether that succeeded."""
        import matplotlib as mpl

        mpl.use("Agg")  # without a screen
        import optuna
        from matplotlib import pyplot as plt

        try:
            with no_warnings(), plt.rc_context(), atomic_write(path) as part:
                figure = self.draw(optuna.visualization.matplotlib).figure
                figure.set_layout_engine("none")  # it would draw once more, and `bbox_inches` crops the image anyway
                figure.savefig(part, format="png", bbox_inches="tight")
        except Exception as error:  # an error in a plot must not fail a sweep
            log.warning("sweep: %s was not drawn: %s", path.name, one_line(error))
            return False
        finally:
            plt.close("all")
        return True


def _worded(drawing: Any) -> Any:
    """Replace optuna's words in a plotly figure by those of the tables."""
    drawing.for_each_trace(
        lambda trace: trace.update(name=_TRIAL.sub(r"trial \1", trace.name or "").replace("Best Value", "best so far"))
    )
    drawing.for_each_xaxis(lambda axis: axis.update(title_text="trial") if axis.title.text == "Trial" else None)
    return drawing


def make_plots(plan: Plan, trials: Sequence[FrozenTrial]) -> list[Plot]:
    """Return the plots of a study, in order, given all its trials."""
    copies = Copies(plan, trials)
    has_several = len(plan.objectives) > 1
    drawings = [_front(plan, copies)] if has_several else []
    for i, name in enumerate(plan.objectives):
        drawings += _of_objective(copies, metric_name(name), i if has_several else None)
    return [*drawings, _curves(plan, copies)]


class Copies:
    """Copies of a study in memory, in which values are escaped as each library requires."""

    def __init__(self, plan: Plan, trials: Sequence[FrozenTrial]) -> None:
        self.plain = renamed_copy(plan, trials, literal_html)
        self._formulas = renamed_copy(plan, trials, literal)
        self._ended = [_with_last_value(trial) for trial in trials] if len(plan.objectives) == 1 else trials
        self._plain_ended = renamed_copy(plan, self._ended, literal_html)
        self._formulas_ended = renamed_copy(plan, self._ended, literal)

    def of(self, module: Any, ended: bool = False) -> optuna.Study:
        """Return the copy for a plotting library.

        Args:
            module: `optuna.visualization`, or its matplotlib counterpart.
            ended: Whether pruned trials count as complete, with their last value.
        """
        if module.__name__.endswith("matplotlib"):
            return self._formulas_ended if ended else self._formulas
        return self._plain_ended if ended else self.plain

    def has_pruned(self, number: int | None) -> bool:
        """Return whether a plot of one objective has pruned trials with a value."""
        return number is None and any(t.state.name == "PRUNED" and t.intermediate_values for t in self.plain.trials)


def _with_last_value(trial: FrozenTrial) -> FrozenTrial:
    """Return a pruned trial as a complete one with the value that it reported last; other trials as they are."""
    import optuna

    if trial.state.name != "PRUNED" or not trial.intermediate_values:
        return trial
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.COMPLETE,
        value=trial.intermediate_values[max(trial.intermediate_values)],
        params=trial.params,
        distributions=trial.distributions,
    )


def renamed_copy(plan: Plan, trials: Sequence[FrozenTrial], escape: Callable[[str], str]) -> optuna.Study:
    """Copy a study; its parameters get the short names of the tables."""
    import optuna
    from optuna.distributions import CategoricalDistribution

    def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
        return {plan.short_names[name]: value for name, value in values.items()}

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


def shared_parameters(trials: Sequence[FrozenTrial]) -> list[str]:
    """Return the parameters that all trials have."""
    return [key for key in (trials[0].params if trials else ()) if all(key in trial.params for trial in trials)]


def _of_objective(copies: Copies, name: str, number: int | None) -> Iterator[Plot]:
    """Yield the plots of one objective; `number` is None if it is the only one."""
    completed = [trial for trial in copies.plain.trials if trial.state.name == "COMPLETE"]
    values = {trial.values[number or 0] for trial in completed}
    shared = shared_parameters(completed)
    target = None if number is None else lambda trial: trial.values[number]
    suffix = "" if number is None else f"_{name}"
    common: dict[str, Any] = {"target": target, "target_name": name}
    too_few = "" if len(completed) > 1 else "it needs at least two completed trials"
    no_key = "" if shared else "the trials have no parameter in common"
    alike = "" if len(values) > 1 else f"all trials have the same {name}"
    alone = "" if len(shared) > 1 else "it needs at least two parameters that all trials have"

    def coordinates(title: str) -> Callable[[Any], Any]:
        def draw(module: Any) -> Any:
            study = copies.of(module, ended=number is None)
            ended = [trial.params for trial in study.trials if trial.state.name == "COMPLETE"]
            params = [key for key in shared if all(key in trial_params for trial_params in ended)]
            return _titled(_visible(module.plot_parallel_coordinate(study, params=params, **common)), title)

        return draw

    title = f"{name}: parallel coordinates" + " (pruned trials: last value)" * copies.has_pruned(number)
    yield Plot(f"parallel_coordinates{suffix}", title, coordinates(title), too_few or no_key)
    title, too_few = f"{name}: importance of the parameters", "" if len(completed) >= MIN_TRIALS else _TOO_FEW
    yield Plot(
        f"parameter_importances{suffix}",
        title,
        lambda module: _titled(draw_importances(module, copies.of(module), target), title),
        too_few or alike or alone,
    )
    history_title = f"{name} of each trial" + " (gray: pruned, last value)" * copies.has_pruned(number)

    def history(module: Any) -> Any:
        drawing = module.plot_optimization_history(copies.of(module), **common)
        return _titled(_with_pruned(drawing, copies.plain if number is None else None), history_title)

    yield Plot(f"optimization_history{suffix}", history_title, history, "" if completed else "no trial is completed")


def _with_pruned(figure: Any, study: optuna.Study | None) -> Any:
    """Add the last values of pruned trials in gray, and label whole numbers of trials only."""
    trials = [t for t in study.trials if t.state.name == "PRUNED" and t.intermediate_values] if study else []
    numbers = [trial.number for trial in trials]
    values = [trial.intermediate_values[max(trial.intermediate_values)] for trial in trials]
    if hasattr(figure, "update_layout"):
        marker = {"color": _GREY, "symbol": "x"}
        if trials:
            figure.add_scatter(x=numbers, y=values, mode="markers", name="pruned", marker=marker)
        count = max((max(trace.x, default=0) for trace in figure.data), default=0)
        return figure.update_xaxes(dtick=max(1, count // 10))
    if trials:
        figure.scatter(numbers, values, color=_GREY, marker="x", label="pruned")
        figure.legend()
    figure.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _front(plan: Plan, copies: Copies) -> Plot:
    names = [metric_name(name) for name in plan.objectives]
    title = f"Pareto front of {' and '.join(names)}"
    has_completed = any(trial.state.name == "COMPLETE" for trial in copies.plain.trials)
    wrong_count = "" if len(names) in _FRONTS else f"there are {len(names)} objectives, and optuna draws two or three"

    def draw(module: Any) -> Any:
        return _titled(module.plot_pareto_front(copies.of(module), target_names=names), title)

    return Plot("pareto_front", title, draw, wrong_count or ("" if has_completed else "no trial is completed"))


def _curves(plan: Plan, copies: Copies) -> Plot:
    """Return the plot of the values that trials reported during training; curves of pruned trials are dotted."""
    name = metric_name(next(iter(plan.objectives)))
    is_per_run = plan.is_replicated and plan.identity["sweep.pruner"] == "wilcoxon"
    run_kind = "fold" if plan.folds else "seed"
    unit = run_kind if is_per_run else "evaluation"
    mean = f"; mean over the {run_kind}s so far, which jumps when the next run starts"
    over_seeds = mean if plan.is_replicated and not is_per_run else ""
    title = f"{name} after each {unit} (dotted: pruned){over_seeds}"
    trials = copies.plain.trials
    pruned = {f"Trial{trial.number}" for trial in trials if trial.state.name == "PRUNED"}
    completed = [trial for trial in trials if trial.state.name == "COMPLETE" and trial.intermediate_values]
    is_max = next(iter(plan.objectives.values())) == "maximize"
    ranked = sorted(completed, key=lambda trial: trial.values[0], reverse=is_max)
    best = [f"Trial{trial.number}" for trial in ranked[:_NAMED]]
    missing = "" if any(trial.intermediate_values for trial in trials) else "no trial reported a value during training"

    def draw(module: Any) -> Any:
        figure = _titled(module.plot_intermediate_values(copies.of(module)), title)
        _style_curves(figure, best, pruned)
        _name_axes(figure, unit, name)
        return figure

    return Plot("learning_curves", title, draw, missing)


def _style_curves(figure: Any, best: Sequence[str], pruned: set[str]) -> None:
    """Color and name the curves of the best trials; the others are pale, and those of pruned ones are dotted.

    Optuna builds the legend before the lines get their colors here, so a new one replaces it.
    """
    if hasattr(figure, "update_layout"):
        for trace in figure.data:
            trace.update(showlegend=trace.name in best)
            if trace.name in pruned:
                trace.update(line_dash="dot", line_color=_GREY, marker_symbol="x")
            elif trace.name not in best:
                trace.update(line_color=_FAINT)
        longest = max((max(trace.x, default=0) for trace in figure.data), default=0)
        figure.update_layout(showlegend=bool(best), xaxis_dtick=max(1, longest // 10))
        return
    if legend := figure.get_legend():
        legend.remove()
    lines = {str(line.get_label()): line for line in figure.lines}
    for label, line in lines.items():
        line.set(color=_PALE, zorder=1)
        if label in pruned:
            line.set(color=_GREY, linestyle=":", marker="x")
    for i, label in enumerate(best):
        lines[label].set(color=f"C{i}", zorder=2)
    if best:
        figure.legend(handles=[lines[label] for label in best], title="best trials")


def _name_axes(figure: Any, x: str, y: str) -> None:
    if hasattr(figure, "update_layout"):
        figure.update_layout(xaxis_title=x, yaxis_title=y)
    else:
        figure.set_xlabel(x)
        figure.set_ylabel(y)


def _visible(figure: Any) -> Any:
    """Give a figure of parallel coordinates colors that are all visible on white, in optuna's direction."""
    if hasattr(figure, "update_layout"):
        from plotly.colors import sample_colorscale

        figure.update_traces(marker_colorscale=PAGE_SCALE, selector={"mode": "markers"})  # the color bar
        is_reversed = any(bar.marker.reversescale for bar in figure.select_traces(selector={"mode": "markers"}))
        for line in figure.select_traces(selector={"mode": "lines"}):
            position = 1 - line.y[0] if is_reversed else line.y[0]  # of the objective's value, from 0 to 1
            line.update(line_color=sample_colorscale(PAGE_SCALE, [position])[0], opacity=0.8)
        figure.for_each_annotation(lambda note: note.update(font_color=None))  # that of the page
        return figure
    for axes in figure.figure.axes:
        for lines in axes.collections:
            suffix = "_r" if lines.get_cmap().name.endswith("_r") else ""
            lines.set_cmap(f"{_SCALE}{suffix}")
    return figure


def _titled(figure: Any, title: str) -> Any:
    """Set the title of a plotly figure or of matplotlib axes, and return it."""
    if hasattr(figure, "update_layout"):
        return figure.update_layout(title=title)
    figure.set_title("", loc="left")  # where optuna puts some titles
    figure.set_title(title)
    return figure
