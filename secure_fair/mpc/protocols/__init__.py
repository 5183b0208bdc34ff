"""Two-party protocols for the fairness losses."""
