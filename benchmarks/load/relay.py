"""A relay to one port of this machine that can hold back every answer: a dependency that works and is slow.

    python benchmarks/load/relay.py PORT

Prints the port that it listens on. Each line on standard input is a number of seconds, by which what comes from PORT is held back from
then on; the end of the input ends it. A process that is stopped and continued would not do: whoever asks just before it goes on is served
at once.
"""

import asyncio
import sys
from contextlib import suppress


class Relay:
    def __init__(self, port: int) -> None:
        self._port = port
        self.seconds = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for as long as both sides keep it."""
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        with suppress(OSError):
            await asyncio.gather(self._pass_on(reader, back, held=False), self._pass_on(there, writer, held=True))

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, held: bool) -> None:
        try:
            while data := await source.read(65_536):
                if held and self.seconds:
                    await asyncio.sleep(self.seconds)
                sink.write(data)
                await sink.drain()
        finally:
            sink.close()


async def _main(port: int) -> None:
    relay = Relay(port)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        relay.seconds = float(line)
    server.close()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
