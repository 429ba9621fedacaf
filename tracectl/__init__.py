"""Record what the Linux kernel did to your threads, and ask questions of the recording."""
