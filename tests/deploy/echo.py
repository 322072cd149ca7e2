"""python echo.py NAME PORT PAGE: says its name to whoever comes to one port, and 200 to whoever asks at the other."""

import socket
import sys
from contextlib import closing, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from deploy.services import LOOPBACK


class Page(BaseHTTPRequestHandler):
    def do_OPTIONS(self) -> None:
        self.send_response(HTTPStatus.OK)
        self.end_headers()


def main(name: str, port: int, page: int) -> None:
    pages = ThreadingHTTPServer((LOOPBACK, page), Page)
    Thread(target=pages.serve_forever, daemon=True).start()
    listening = socket.create_server((LOOPBACK, port))
    while True:
        connection, _ = listening.accept()
        # Whoever came while it was frozen may be gone by now.
        with closing(connection), suppress(ConnectionError):
            connection.sendall(name.encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
