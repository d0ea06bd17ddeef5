"""A fitted learner as a folder of safetensors and JSON: written, read back, used, exported. No mlflow here."""
