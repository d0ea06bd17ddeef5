"""What a run costs: memory, seconds, floating-point operations, and what the machine could reach."""
