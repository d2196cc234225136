"""Observations into delivered, explained alerts: config, broker, pipeline, keyed state, alerts, sinks and the CLI."""

__version__ = "0.1.0"
