"""From a configuration to results: the session, the plan, the run, and comparisons of runs."""
