"""Data sets: procedural faces, CelebA and UTK-Face readers, prepared folders."""
