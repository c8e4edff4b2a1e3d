"""From a volume to labelled, measured bones."""
