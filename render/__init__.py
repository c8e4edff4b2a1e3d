"""From a scene to pixels: window, picture, headset."""
