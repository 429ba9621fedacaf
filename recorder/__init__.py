"""From the kernel to a capture file. Imports tracectl.store only."""
