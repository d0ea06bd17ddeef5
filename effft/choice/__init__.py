"""Which strategy to take for these rows, this much memory and these minutes: an answer with its uncertainty."""
