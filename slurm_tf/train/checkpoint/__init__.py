"""Checkpoints: when to save, how a save is written and read back, where training may stop."""
