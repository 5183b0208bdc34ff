"""secure-fair: fairness-aware LoRA fine-tuning with secret-shared sensitive attributes."""

__version__ = "0.1.0"
