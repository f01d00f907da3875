"""What runs in every rank of a training: build, fit, be watched, be told to stop."""
