"""`secure-fair bench overhead`: seconds of a training step, plaintext against secure."""
