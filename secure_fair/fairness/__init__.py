"""Objectives, metrics and the registry of methods."""
