"""The same work done by effft and by a plain transformers Trainer + peft + Optuna script, timed side by side."""
