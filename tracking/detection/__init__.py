"""From a picture to marker corners with their covariance."""
