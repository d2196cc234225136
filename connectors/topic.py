"""A topic that other producers fill (rsyslog's omkafka, Beats, Vector), one line per record: configuration only.

The detect role reads it as a foreign topic (`=name`) beside the raw topic, so lines are not copied. Tenant and source
are those of this entry; what the records' headers say about them is not believed.
"""

from connectors.inlet import Inlet, SourceConfig


class Config(SourceConfig, frozen=True, kw_only=True):
    topic: str

    @property
    def foreign(self) -> str:
        """The topic as the broker is asked for it: exactly that one, without the product's prefix."""
        return f"={self.topic}"


class Source:
    """Nothing to take in: `run` is over at once."""

    def __init__(self, config: Config, inlet: Inlet) -> None:
        """There for the source contract."""

    async def run(self) -> None:
        return
