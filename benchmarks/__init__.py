"""Benchmarks: one module or folder a question."""
