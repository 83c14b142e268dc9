"""Several models trained as one are what each becomes alone."""
