"""Pixel data: decoding, rendering and encoding of frames. Runs in child processes only: it imports numpy."""
