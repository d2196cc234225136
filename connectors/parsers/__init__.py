"""One file per log format; each offers `NAME`, `sniff(text)` and `parse(text, origin)` (contract: `connectors.events`)."""
