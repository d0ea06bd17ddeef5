"""A scikit-learn classifier of texts: a strategy on a pre-trained model, fitted on all rows it is given."""

import tempfile
from inspect import Parameter, Signature, signature
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from effft.adapted_model import Adaptation, Rows
from effft.api import track_run
from effft.config import DATA_FIELDS, DIFFICULTY_FIELDS, RunConfig, TrackingTarget, make_config
from effft.data.files import write_jsonl
from effft.errors import InputError, nearest
from effft.strategies.strategy import check_trains, compose

DATA = ("task", "data_dir", "allow_outside", *DATA_FIELDS, *DIFFICULTY_FIELDS)
OWN = ("strategy", "model", "seed", "log_model")
OPTIONS = tuple(name for name in RunConfig.model_fields if name not in (*OWN, *DATA))
"""Flags of a run that a classifier takes; the data come with `fit`, and nothing is tracked."""

LARGEST_SEED = 2**31 - 1


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """Adapt a model with a strategy to texts and labels, as `effft run` does.

    It trains on all rows (`rows`, `per_label` take fewer), measures nothing and is not tracked: that is left to
    scikit-learn, `cross_val_score(effft.Classifier(...), texts, labels)`.

    Args:
        strategy: Name, or parts joined by '+'.
        model: Pre-trained model: tiny-lm (built in), a hub id, or a local folder.
        random_state: Seed of new parameters, dropout and the order of examples: a number, a RandomState, or None.
        **options: Every other flag of `effft run STRATEGY --help` but those of data and tracking, such as `epochs=5`.

    Attributes:
        classes_: The labels, sorted.
        adaptation_: The adapted model, which can be saved: `classifier.adaptation_.save("folder")`.
    """

    def __init__(
        self,
        strategy: str = "lora",
        model: str = "tiny-lm",
        random_state: "int | np.random.RandomState | None" = 0,
        **options: Any,
    ) -> None:
        self.strategy = strategy
        self.model = model
        self.random_state = random_state
        for name in OPTIONS:
            setattr(self, name, options.pop(name, None))
        if options:
            name = next(iter(options))
            raise InputError(f"unknown parameter {name!r}.{nearest(name, OPTIONS)}")

    def fit(self, X: Rows, y: Any) -> "Classifier":  # noqa: N803 - scikit-learn's name
        """Train on texts (or rows of several texts) and their labels.

        Raises:
            InputError: anything that the command line would refuse, in the same sentence.
            ValueError: there are no labels, or they are no classes.
        """
        if y is None:
            raise ValueError("this classifier requires y to be passed, but the target y is None")
        if np.ndim(y) == 2 and np.shape(y)[1] > 1:
            raise InputError(
                "y has a column for each of several labels; this classifier gives one label a text: use "
                "effft.adapt(strategy, frame, label=[...]) with columns of 1 and 0."
            )
        frame, labels = _texts(X), column_or_1d(y, warn=True)
        if (missing := np.flatnonzero(pd.isna(labels))).size:
            raise InputError(f"y has no label in row {missing[0]}; fill or remove it.")
        check_classification_targets(labels)
        if len(labels) != len(frame):
            raise ValueError(f"X has {len(frame)} rows and y has {len(labels)} labels; give one label for each row")
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            known = ", ".join(map(repr, self.classes_))
            raise InputError(f"y has {len(self.classes_)} class only ({known}); a classifier needs two or more.")
        names = [str(label).strip() for label in self.classes_]
        if len(set(names)) < len(names) or not all(name and name[0] != "[" for name in names):  # the text of a list
            names = [f"class {number}" for number in range(len(names))]
        place = tempfile.TemporaryDirectory(prefix="effft-adapted-")
        with tempfile.TemporaryDirectory(prefix="effft-data-") as folder:
            rows = frame.assign(label=[names[number] for number in numbers])
            values = {"rows": "all", "cross_validation": "none", "bootstrap": 0, "seed": _seed(self.random_state)}
            given = {name: value for name in OPTIONS if (value := getattr(self, name)) is not None}
            check_trains([compose(self.strategy)], given)
            if "per_label" in given:
                del values["rows"]
            values |= {"text": ",".join(frame.columns), "label": "label", **given, "strategy": self.strategy}
            values |= {"model": self.model}
            values |= {"data": str(write_jsonl(Path(folder) / "data.jsonl", rows))}
            result, _ = track_run(make_config(values), TrackingTarget(disabled=True), keep=Path(place.name) / "saved")
        self.adaptation_ = Adaptation(result, "", place)
        self._columns = [self.adaptation_.labels.index(name) for name in names]
        self._names = _names(X)
        return self

    def predict(self, X: Rows) -> NDArray[Any]:  # noqa: N803 - scikit-learn's name
        """The class of each text."""
        check_is_fitted(self)
        answers: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return answers

    def predict_proba(self, X: Rows) -> NDArray[np.float64]:  # noqa: N803 - scikit-learn's name
        """Probabilities, (texts, classes), in the order of `classes_`."""
        check_is_fitted(self)
        if self._names and (names := _names(X)) and names != self._names:
            raise InputError(f"X has the columns {', '.join(names)}; fit read {', '.join(self._names)}, in this order.")
        rows = list(_texts(X).itertuples(index=False, name=None))
        return self.adaptation_.predict_proba(rows)[:, self._columns]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array = True, True
        tags.input_tags.two_d_array = False  # of numbers; rows of several texts are read
        return tags


def _signature() -> Signature:
    """All parameters by name, from which scikit-learn reads what can be set."""
    named = [p for p in signature(Classifier.__init__).parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
    return Signature([*named, *(Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in OPTIONS)])


Classifier.__init__.__signature__ = _signature()  # type: ignore[attr-defined] # a function takes attributes


def _texts(X: Rows) -> pd.DataFrame:  # noqa: N803 - scikit-learn's name
    """Texts as a table: `text`, or `text_1`, `text_2` and so on."""
    if isinstance(X, str):
        raise InputError("X is one text; give a list of texts.")
    values = X.to_numpy() if hasattr(X, "to_numpy") else X
    table = pd.DataFrame(list(values))
    names = ["text"] if table.shape[1] < 2 else [f"text_{n + 1}" for n in range(table.shape[1])]
    return table.set_axis(names, axis=1) if table.shape[1] else pd.DataFrame(columns=names)


def _names(X: Rows) -> list[str]:  # noqa: N803 - scikit-learn's name
    return [*map(str, getattr(X, "columns", ()))]


def _seed(state: "int | np.random.RandomState | None") -> int:
    return int(state) if isinstance(state, Integral) else int(check_random_state(state).randint(LARGEST_SEED))
