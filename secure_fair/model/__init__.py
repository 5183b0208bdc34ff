"""Backbone, LoRA adapter and head."""
