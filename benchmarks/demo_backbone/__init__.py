"""How the demo's checkpoint was trained, and how the default weights were chosen."""
