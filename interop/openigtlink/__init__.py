"""OpenIGTLink 1 to 3: poses of external trackers in; our poses, bones, scans and plans out to 3D Slicer and others."""
