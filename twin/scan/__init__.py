"""From a CT on disk to a volume in patient coordinates."""
