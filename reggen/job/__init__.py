"""The job file: its models, how it is read, and the problems it can have."""
