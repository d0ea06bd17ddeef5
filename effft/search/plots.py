"""The study's plots as one HTML page."""

import warnings
from collections.abc import Callable
from typing import Any

from optuna import visualization
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import Study

from effft.templating import render


def evaluator() -> FanovaImportanceEvaluator:
    """fANOVA: of 10 trials it finds the one parameter that matters, where Optuna's default (PED-ANOVA) guesses."""
    return FanovaImportanceEvaluator(seed=0)


PLOTS: dict[str, Callable[[Study], Any]] = {
    "history": visualization.plot_optimization_history,
    "importance": lambda study: visualization.plot_param_importances(study, evaluator=evaluator()),
    "parallel coordinates": visualization.plot_parallel_coordinate,
    "slices": visualization.plot_slice,
}
SEVERAL: dict[str, Callable[[Study], Any]] = {"Pareto front": visualization.plot_pareto_front}


def importances(study: Study) -> dict[str, float]:
    """How much of the spread in the first objective each parameter explains; {} where there are too few trials."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shares = get_param_importances(study, evaluator=evaluator(), target=lambda trial: float(trial.values[0]))
    except (ValueError, RuntimeError):
        return {}
    return {name: float(share) for name, share in shares.items()}


def page(study: Study) -> str:
    """All plots that the study has enough trials for; plotly's code is inside, so it opens without a network."""
    plots: list[tuple[str, str, str]] = []
    for name, plot in (PLOTS if len(study.directions) == 1 else SEVERAL).items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                figure = plot(study)
            with_plotly = not any(html for _, html, _ in plots)
            plots.append((name, figure.to_html(full_html=False, include_plotlyjs=with_plotly), ""))
        except (ValueError, RuntimeError) as error:  # too few trials, or all equal
            plots.append((name, "", str(error)))
    return render("study.html", title=study.study_name, plots=plots)
