"""Fuzzing: changed files of every format that latens reads, for as long as one likes; see ``__main__``."""
