"""The speed of latens compared with other libraries and with what the machine can do; see bench/README.md."""
