"""A run's model as graphs of tensor operations, to run without latens."""
