"""Code that depends on the processor or the operating system, each with a plain fallback."""
