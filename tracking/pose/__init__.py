"""From corners to the pose of a body with its covariance."""
