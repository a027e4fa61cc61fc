"""One file a version: vNNNN_what_it_brings.py."""
