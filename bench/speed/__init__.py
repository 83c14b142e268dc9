"""Speed beside other libraries' and beside what the machine can do: see bench/README.md."""
