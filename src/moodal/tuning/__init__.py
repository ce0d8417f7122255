"""Search for settings, from a space to the model that is kept."""
