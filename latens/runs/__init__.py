"""What a run is, how it comes about, and what is made of it."""
