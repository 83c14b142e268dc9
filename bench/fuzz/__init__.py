"""Fuzzing of latens with altered files of every format that it reads; see ``__main__``."""
