"""The training loop, the same for plaintext and secure runs."""
