"""A run's model as graphs of tensor operations, which run without latens."""
