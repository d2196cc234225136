import asyncio
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from intake import broker_at, lines_arrive, lines_of, running, unused_port
from test_syslog_source import certificate

from connectors.http import Config as HttpConfig
from connectors.http import Source as HttpSource
from connectors.inlet import Inlet
from connectors.syslog import Config, Source
from shield.broker import Broker

pytestmark = pytest.mark.timeout(120)

LINES = 500


def program(name: str, package: str) -> str:
    """The path of a real sender; absent ones are skipped with their name, and are a failure where CI is set."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if found is None:
        assert os.environ.get("CI") != "true", f"{name} is missing: install {package}"
        pytest.skip(f"{name} is missing: install {package}")
    return found


@asynccontextmanager
async def listening(broker: Broker, *listen: str, **options: str) -> AsyncIterator[Source]:
    made: asyncio.Queue[Source] = asyncio.Queue()

    def use(config: Config, inlet: Inlet) -> Source:
        source = Source(config, inlet)
        made.put_nowait(source)
        return source

    config = msgspec.convert({"tenant": "town", "source": "net", "listen": listen, **options}, Config)
    async with running(broker, use, config):
        source = await made.get()
        await source.started.wait()
        yield source


async def sent(*command: str | Path) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


@pytest.mark.parametrize("framing", ["--octet-count", "", "--udp"])
def test_logger(tmp_path: Path, framing: str) -> None:
    logger = program("logger", "bsdutils")
    text = tmp_path / "messages"
    text.write_text("".join(f"message {n}\n" for n in range(LINES)))
    broker = broker_at(tmp_path)

    async def scene() -> None:
        async with listening(broker, "udp://127.0.0.1:0" if framing == "--udp" else "tcp://127.0.0.1:0") as source:
            _, host, port = source.addresses[0]
            kind = ["--udp"] if framing == "--udp" else ["--tcp", *filter(None, [framing])]
            await sent(logger, "--rfc5424", "-n", host, "-P", str(port), "-t", "test", "-f", str(text), *kind)
            await lines_arrive(broker, LINES)

    asyncio.run(scene())
    lines = lines_of(broker)
    assert [line.rsplit(b" ", 1)[1] for line in lines] == [b"%d" % n for n in range(LINES)]
    assert all(line.startswith(b"<13>1 ") for line in lines)
    broker.close()


def rsyslog(folder: Path, host: str, port: int, options: str) -> Path:
    """A configuration of our own: one file in, one forward out, nothing of the system."""
    (folder / "work").mkdir()
    path = folder / "rsyslog.conf"
    path.write_text(
        f'global(workDirectory="{folder}/work" {options.partition("|")[0]})\n'
        'module(load="imfile" mode="polling" pollingInterval="1")\n'
        f'input(type="imfile" File="{folder}/in.log" Tag="test:")\n'
        f'action(type="omfwd" target="{host}" port="{port}" protocol="tcp" {options.partition("|")[2]})\n'
    )
    return path


@pytest.mark.parametrize("driver", ["plain", "octet-counted", "gtls", "ossl"])
def test_rsyslog(tmp_path: Path, driver: str) -> None:
    rsyslogd = program("rsyslogd", "rsyslog rsyslog-gnutls rsyslog-openssl")
    if driver in {"gtls", "ossl"} and not list(Path("/usr/lib").glob(f"*/rsyslog/lmnsd_{driver}.so")):
        program(f"lmnsd_{driver}.so", "rsyslog-gnutls rsyslog-openssl")
    ca = certificate(tmp_path, "ca")
    certificate(tmp_path, "server", ca)
    certificate(tmp_path, "client", ca)
    (tmp_path / "in.log").write_text("".join(f"message {n}\n" for n in range(LINES)))
    broker = broker_at(tmp_path)
    tls = {
        "cert_file": str(tmp_path / "server.pem"),
        "key_file": str(tmp_path / "server.key"),
        "client_ca_file": str(tmp_path / "ca.pem"),
    }

    async def scene() -> None:
        secured = driver in {"gtls", "ossl"}
        url = "tls://127.0.0.1:0" if secured else "tcp://127.0.0.1:0"
        async with listening(broker, url, **(tls if secured else {})) as source:
            _, host, port = source.addresses[0]
            options = {
                "plain": '|TCP_Framing="traditional"',
                "octet-counted": '|TCP_Framing="octet-counted"',
            }.get(
                driver,
                f'defaultNetstreamDriverCAFile="{tmp_path}/ca.pem" '
                f'defaultNetstreamDriverCertFile="{tmp_path}/client.pem" '
                f'defaultNetstreamDriverKeyFile="{tmp_path}/client.key" '
                f'|StreamDriver="{driver}" StreamDriverMode="1" StreamDriverAuthMode="x509/name" '
                'StreamDriverPermittedPeers="localhost" TCP_Framing="octet-counted"',
            )
            config = rsyslog(tmp_path, host, port, options)
            pid = tmp_path / "rsyslog.pid"
            with (tmp_path / "rsyslog.out").open("wb") as out:
                process = await asyncio.create_subprocess_exec(
                    rsyslogd, "-n", "-f", str(config), "-i", str(pid), stdout=out, stderr=out
                )
            try:
                await asyncio.wait_for(lines_arrive(broker, LINES), 30)
            except TimeoutError:
                pytest.fail((tmp_path / "rsyslog.out").read_text())
            finally:
                process.terminate()
                await process.wait()

    asyncio.run(scene())
    found = [line for line in lines_of(broker) if b" test: message " in line]  # rsyslog speaks of itself too
    assert [line.rsplit(b" ", 1)[1] for line in found] == [b"%d" % n for n in range(LINES)]
    assert ssl.HAS_TLSv1_3
    broker.close()


def test_curl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curl = program("curl", "curl")
    monkeypatch.setenv("NET_TOKEN", "only-for-tests-0123456789")
    text = tmp_path / "in.log"
    text.write_text("".join(f"message {n}\n" for n in range(LINES)))
    ca = certificate(tmp_path, "ca")
    certificate(tmp_path, "server", ca)
    broker, port = broker_at(tmp_path), unused_port()
    config = msgspec.convert(
        {
            "tenant": "town",
            "source": "net",
            "port": port,
            "tokens": [{"token_env": "NET_TOKEN"}],
            "cert_file": str(tmp_path / "server.pem"),
            "key_file": str(tmp_path / "server.key"),
        },
        HttpConfig,
    )

    async def scene() -> None:
        async with running(broker, HttpSource, config):
            out = await sent(
                curl, "--silent", "--show-error", "--fail", "--retry", "20", "--retry-connrefused", "--retry-delay", "1",
                "--cacert", str(tmp_path / "ca.pem"), "--resolve", f"localhost:{port}:127.0.0.1", "--noproxy", "*",
                "-H", "Authorization: Bearer only-for-tests-0123456789", "-H", "Content-Type: text/plain",
                "--data-binary", f"@{text}", f"https://localhost:{port}/ingest",
            )  # fmt: skip
            assert msgspec.json.decode(out) == {"lines": LINES}
            assert len(lines_of(broker)) == LINES

    asyncio.run(scene())
    broker.close()
