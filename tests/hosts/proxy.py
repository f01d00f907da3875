"""A TCP proxy that is slow or breaks connections, between hosts that are otherwise well."""

import contextlib
import selectors
import socket
import struct
import threading
import time


class TcpProxy:
    """Passes bytes on between those who connect to `address` and a target.

    Attributes:
        delay: Seconds that every piece of data waits before it is passed on.
    """

    def __init__(self, address: str, target: tuple[str, int]) -> None:
        self.delay = 0.0
        self._target = target
        self._listener = socket.create_server((address, 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def reset(self) -> int:
        """Break every connection there is with a RST; how many there were."""
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            _break(end)
        return len(ends) // 2

    def close(self) -> None:
        """Accept no more, and break what there is."""
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), name="proxy", daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, timeout=10)
        except OSError:
            _break(client)
            return
        with self._lock:
            self._open |= {client, server}
        with contextlib.suppress(OSError, ValueError):
            self._shovel({client: server, server: client})
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _shovel(self, other: dict[socket.socket, socket.socket]) -> None:
        with selectors.DefaultSelector() as ready:
            for side in other:
                side.settimeout(60)
                ready.register(side, selectors.EVENT_READ, side)
            while all(side.fileno() >= 0 for side in other):
                for key, _ in ready.select(timeout=0.5):
                    end: socket.socket = key.data
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    if self.delay:
                        time.sleep(self.delay)
                    other[end].sendall(data)


def _break(end: socket.socket) -> None:
    """Close with a RST instead of a FIN."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
