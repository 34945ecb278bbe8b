"""Tests nodes before the programs start (preflight, diagnosis), and excludes bad ones from the next attempt."""
