"""Code on its way: packed where it is written, examined and unpacked where it is to run, never run in between."""
