"""Party processes and their messages; no mathematics."""
