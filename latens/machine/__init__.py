"""What depends on the processor and the operating system, each with a plain fallback."""
