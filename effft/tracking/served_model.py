"""The file that MLflow keeps as the code of a model (a model from code, no pickle) and runs to load it."""

from mlflow.models import set_model

from effft.tracking.pyfunc import ServedModel

set_model(ServedModel())
