"""What is asked for: the job file, its models, and the problems that it can have."""
