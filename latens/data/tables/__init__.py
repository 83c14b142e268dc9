"""Tables: files and data frames to arrow tables and back, and what each column is."""
