"""Checkpoints: when to save, how a save is written and read back, and at which steps training may stop."""
