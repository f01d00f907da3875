"""What a person's command does: reach a target, submit a job to it, look at jobs, data sets and models there."""
