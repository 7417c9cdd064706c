"""Training, evaluation and prediction; checkpoints, devices and logs."""
