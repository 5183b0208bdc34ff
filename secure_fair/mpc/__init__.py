"""Secure computation on CrypTen's tensors; nothing outside this package imports CrypTen."""
