"""The twin laid over the live picture, with an honest error."""
