"""Optuna studies that tune every strategy under one honest budget."""
