"""Where a body of markers is, seen by one camera: pictures in, poses with their covariance out."""
