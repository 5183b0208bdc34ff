"""Authenticated channels between two parties; knows nothing of CrypTen."""
