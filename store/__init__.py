"""What is on disk: event catalogue, schemas, capture files, DuckDB relations. Imports nothing of the other packages."""
