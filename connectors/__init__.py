"""Bytes into events: the sources that receive log lines and the parsers that read them."""
