"""Fuzzing: changed files of every format that latens reads, for as long as you like; see ``__main__``."""
