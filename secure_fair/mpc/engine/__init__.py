"""Runtime, communicator, randomness, sharing and the one door through which values are opened."""
