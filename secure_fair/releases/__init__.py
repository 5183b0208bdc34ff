"""What the developer may see: gradient, moment, randomized response."""
