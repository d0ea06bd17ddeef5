"""How `tiny-lm` is made: its text, its curriculum, its training. Used by the `pretrain` entry point only."""
