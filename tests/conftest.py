"""Fixtures that more than one test file uses: real Apache Kafka, and where other people's samples lie."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog
from kafka_server import KafkaServer, Unavailable


@contextmanager
def _running(nodes: int) -> Iterator[KafkaServer]:
    try:
        server = KafkaServer(nodes)
    except Unavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"the tests with Apache Kafka must run here: {reason}")
        pytest.skip(f"no Apache Kafka: {reason}")
    with server:
        yield server


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command run in this process sets up logging; the next test must not inherit it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    """One broker, shared by all tests of the session: use a prefix of your own."""
    with _running(1) as server:
        yield server


@pytest.fixture
def kafka_cluster() -> Iterator[KafkaServer]:
    """Three brokers, to be killed."""
    with _running(3) as server:
        yield server
