"""Copies files from shared storage to the nodes' scratch before the programs start."""
