"""Where numbers go: a Tracker protocol, one that remembers (tests), one that writes to MLflow."""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # mlflow reads it once, when it is imported
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
