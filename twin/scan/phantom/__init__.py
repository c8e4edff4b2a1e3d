"""The digital phantom: a patient made of implicit surfaces, its CT and its truth."""
