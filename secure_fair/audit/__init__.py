"""Fairness audits: tables, layouts of counts, metrics, intervals, suppression, noise."""
