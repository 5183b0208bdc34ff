"""Command line: one file a command family, loaded lazily."""
