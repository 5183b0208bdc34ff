"""Bias against utility against epsilon, and against how well the released predictor does on people outside the data."""
