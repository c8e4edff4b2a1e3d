"""From a camera's picture to poses with a covariance."""
