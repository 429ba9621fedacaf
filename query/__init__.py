"""From a question to rows. Imports tracectl.store only."""
