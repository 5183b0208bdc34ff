"""Correlated randomness: plan, dealer and the parties' source."""
