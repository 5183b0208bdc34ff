"""Attacks on what a run disclosed, one a file."""
