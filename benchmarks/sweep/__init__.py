"""What the defaults rest on: one setting after the other, and each method's weight, around a base."""
