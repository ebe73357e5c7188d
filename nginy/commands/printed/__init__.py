"""What nginy prints about itself: --help, the manual page, completion and the reference of keys."""
